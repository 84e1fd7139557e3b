"""The tables of `dcpipe status` and `dcpipe inspect`, of what `states.py` and `contents.py` found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from dcpipe.reports.columns import human, when_tested
from dcpipe.reports.contents import Contents
from dcpipe.reports.states import Scores, State, scores_of
from dcpipe.types import Score, reference_bytes


def status(found: State) -> RenderableType:
    """The artifacts of each stage in a workspace with their sizes, and the score table if there is one."""
    stages = Table("stage", "made", "size", "digest", title="stages")
    for stage in found.stages:
        label = stage.stage if stage.key is None else f"{stage.stage}/{stage.key}"
        made = ("yes", human(stage.bytes), stage.digest[:12]) if stage.made else ("no", "", "")
        stages.add_row(label, *made)
    notes = [escape(f"Images: {line}.") for line in found.images]
    notes += [f"Leakage: {found.leakage}."] if found.leakage else []
    if found.scores is None:
        return Group(stages, *notes, "No scores yet; `dvc repro` builds the stages that are missing.")
    return Group(stages, *notes, _table(found.scores))


def workspace_scores(root: Path) -> Table:
    """The score table of a workspace that has scores."""
    return _table(scores_of(root))


def _table(found: Scores) -> Table:
    return score_table(found.scores, found.labels, found.grid, found.per_class)


def score_table(
    scores: Sequence[Score], labels: dict[str, Any] | None, grid: int = 1, per_class: Sequence[int] | None = None
) -> Table:
    """One row per score. Facts that all rows share are in the title, the others have a column. Those of the upper
    bound, which is not a condensed set, are below the table.

    `labels` is the shape of the label pack (images, views, classes), for the size in fp16, `grid` the side of the grid
    that a stored image is, and `per_class` the stored images of each class.
    """
    facts = [
        {
            "protocol": s.protocol,
            "student": s.student,
            "epochs": str(s.epochs),
            "ipc": str(s.ipc),
            "seeds": str(len(s.accuracy)),
            # What has no labels is not compared with labels in fp16.
            "labels in fp16": human(reference_bytes(labels, s.ipc, grid, per_class))
            if s.total_bytes > s.image_bytes
            else "",
        }
        for s in scores
    ]
    of_sets = [row for s, row in zip(scores, facts, strict=True) if not s.on_all_images] or facts
    found = {name: {row[name] for row in of_sets} - {""} for name in facts[0]}
    common = [f"{name} {value}" for name, values in found.items() if len(values) == 1 for value in values]
    lines = [", ".join(common[start : start + 4]) for start in range(0, len(common), 4)]
    different = [name for name, values in found.items() if len(values) > 1]
    table = Table(
        title="\n".join([f"top-1 on test in percent, {when_tested(row['protocol'] for row in of_sets)}", *lines]),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("set")
    for name in (*different, "accuracy", "images", "labels", "teacher", "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for s, row in zip(scores, facts, strict=True):
        sizes = (s.image_bytes, s.label_bytes, s.teacher_bytes, s.total_bytes)
        mean = f"{s.mean:.1f} ± {s.std:.1f}"
        if s.on_all_images:
            table.add_section()
            table.caption = (
                f"{s.name}: {s.ipc:,} per class, their classes as labels, {s.epochs:,} epochs by the "
                f"recipe of {s.protocol}"
            )
        table.add_row(s.name, *(row[name] for name in different), mean, *(human(size) for size in sizes))
    return table


def inspect(found: Contents) -> RenderableType:
    """Every file, and in each every array with dtype, shape and bytes."""
    table = Table("array", "dtype", "shape", title=escape(str(found.path)))
    table.add_column("bytes", justify="right")
    notes = list(found.verified)
    for file in found.files:
        table.add_row(f"[bold]{escape(file.name)}[/bold]", "", "", f"{file.bytes:,}")
        notes += [f"{file.name}: {key} = {value}" for key, value in file.header.items()]
        for part in file.arrays:
            table.add_row(f"  {escape(part.name)}", part.dtype, str(part.shape), f"{part.bytes:,}")
    table.add_row("total", "", "", f"{found.bytes:,}")
    return Group(table, *map(escape, notes))
