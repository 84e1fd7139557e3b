"""The tables of `dcpipe status` and `dcpipe inspect`: scores, and sizes that are measured on disk without loading
arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from dcpipe import store
from dcpipe.images import leakage
from dcpipe.reports.columns import human, when_tested
from dcpipe.reports.verification import describe, verify_all
from dcpipe.store.documents import reading
from dcpipe.store.labels import LABELS, read_pack_header
from dcpipe.store.manifest import MANIFEST, Manifest, read_manifest
from dcpipe.store.tensors import read_header
from dcpipe.types import DataError, Score, reference_bytes, require

_DEEP = 3  # folders between a file of an artifact and its manifest
PLACES = {
    "images": "data/images",
    "teacher": "data/teacher",
    "features": "data/features",
    "selection": "data/selection",
    "synthesis": "data/synthesis",
    "softlabels": "data/softlabels",
    "compression": "data/compression",
    "evaluation": "data/evaluation/scores",
    "release": "data/release",
}


def status(root: Path) -> RenderableType:
    """The artifacts of each stage in the workspace with their sizes, and the score table if there is one."""
    stages = Table("stage", "made", "size", "digest", title="stages")
    for stage, place in PLACES.items():
        made = _made(root / place)
        if not made:
            stages.add_row(stage, "no", "", "")
        for folder in made:
            label = stage if folder == root / place else f"{stage}/{folder.name}"
            digest = _manifest(folder).digest[:12]
            stages.add_row(label, "yes", human(store.folder_bytes(folder)), digest)
    notes = [f"Leakage: {found}."] if (found := leakage.recorded(root / PLACES["images"])) else []
    if not _made(root / PLACES["evaluation"]):
        return Group(stages, *notes, "No scores yet; `dvc repro` builds the stages that are missing.")
    return Group(stages, *notes, workspace_scores(root))


def workspace_scores(root: Path) -> Table:
    """The score table of a workspace that has scores."""
    labels = _packed_labels(root / PLACES["compression"] / LABELS)
    made = _made(root / PLACES["synthesis"])
    return score_table(store.load_scores(root / PLACES["evaluation"]), labels, _grid(made[0]) if made else 1)


def score_table(scores: Sequence[Score], labels: dict[str, Any] | None, grid: int = 1) -> Table:
    """One row per score. Facts that all rows share are in the title, the others have a column.

    `labels` is the shape of the label pack (images, views, classes), for the size in fp16, and `grid` the side of the
    grid that a stored image is.
    """
    facts = [
        {
            "protocol": s.protocol,
            "student": s.student,
            "epochs": str(s.epochs),
            "ipc": str(s.ipc),
            "seeds": str(len(s.accuracy)),
            "labels in fp16": human(reference_bytes(labels, s.ipc, grid)),
        }
        for s in scores
    ]
    shared = {name for name in facts[0] if len({row[name] for row in facts}) == 1}
    common = [f"{name} {facts[0][name]}" for name in facts[0] if name in shared]
    lines = [", ".join(common[start : start + 4]) for start in range(0, len(common), 4)]
    different = [name for name in facts[0] if name not in shared]
    table = Table(
        title="\n".join([f"top-1 on test in percent, {when_tested(row['protocol'] for row in facts)}", *lines]),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("set")
    for name in (*different, "accuracy", "images", "labels", "teacher", "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for s, row in zip(scores, facts, strict=True):
        sizes = (s.image_bytes, s.label_bytes, s.teacher_bytes, s.total_bytes)
        mean = f"{s.mean:.1f} ± {s.std:.1f}"
        table.add_row(s.name, *(row[name] for name in different), mean, *(human(size) for size in sizes))
    return table


def inspect(path: Path) -> RenderableType:
    """Every file of an artifact's folder (or one file), and in each every array with dtype, shape and bytes.

    All artifacts in the folder, or the one that the file belongs to, are verified first: raises `DataError` naming the
    damaged files.
    """
    require(path.exists(), f"{path} is neither a folder, a file nor a tag NAME@vX.Y.Z; give one of them")
    table = Table("array", "dtype", "shape", title=escape(str(path)))
    table.add_column("bytes", justify="right")
    notes: list[RenderableType] = [*_verification(path)]
    root = path if path.is_dir() else path.parent
    total = 0
    for file in _files(path):
        name = file.relative_to(root).as_posix()
        size = store.folder_bytes(file) if file.is_dir() else file.stat().st_size
        total += size
        table.add_row(f"[bold]{escape(name)}[/bold]", "", "", f"{size:,}")
        rows, told = _inside(file, size)
        notes += [escape(f"{name}: {line}") for line in told]
        for label, dtype, shape, n_bytes in rows:
            table.add_row(f"  {escape(label)}", dtype, str(shape), f"{n_bytes:,}")
    table.add_row("total", "", "", f"{total:,}")
    return Group(table, *notes)


def _inside(file: Path, size: int) -> tuple[list[tuple[str, str, list[int], int]], list[str]]:
    """What a file of `size` bytes holds, (name, dtype, shape, bytes) each, and what its header says besides."""
    remedy = "pull or rebuild it"
    if file.suffix == ".safetensors":
        header = read_header(file)
        rows: list[tuple[str, str, list[int], int]] = [("header", "", [], header.n_bytes)]
        rows += [(key, entry.dtype, list(entry.shape), entry.n_bytes) for key, entry in header.arrays.items()]
        return rows, [f"{key} = {value}" for key, value in header.metadata.items()]
    if file.suffix == ".parquet":
        with reading(file, "Parquet", remedy):
            return [("rows", "", [pq.read_metadata(file).num_rows], size)], []
    if file.suffix == ".zarr":
        with reading(file, "a Zarr array", remedy):
            array = store.open_blocks(file)
            return [("array", str(array.dtype), list(array.shape), size)], []
    return [], []


def _verification(path: Path) -> list[str]:
    """What verifying the artifacts at `path` found, or the one around it; raises `DataError` for damaged ones."""
    folders = [path, *path.absolute().parents]
    around = next((folder for folder in folders[: _DEEP + 1] if (folder / MANIFEST).is_file()), None)
    root = path if around is None else around
    found = verify_all(root)
    if found.damaged:
        raise DataError("\n".join(found.damaged))
    if not found.whole:
        return [f"not verified: there is no {MANIFEST} that vouches for it"]
    if around is not None and len(found.whole) == 1:
        return [describe(found.whole[0])]
    return [escape(line) for line in found.lines(root)]


def _files(path: Path) -> list[Path]:
    """The files below a folder, where a Zarr array counts as one file, or the path itself if it is a file or array."""
    if path.is_file() or path.suffix == ".zarr":
        return [path]
    arrays = sorted(path.rglob("*.zarr"))
    inside = [p for p in path.rglob("*") if p.is_file() and not any(array in p.parents for array in arrays)]
    return sorted([*arrays, *inside])


def _made(folder: Path) -> list[Path]:
    """The artifacts of a stage: the folder itself, or its subfolders, one per key."""
    if (folder / "artifact.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/artifact.json"))


def _manifest(folder: Path) -> Manifest:
    return read_manifest(folder, store.SCHEMA)


def _grid(folder: Path) -> int:
    """The grid of a set of images, from its manifest."""
    grid = _manifest(folder).meta.get("grid")
    if not isinstance(grid, int) or grid < 1:
        raise DataError(f"{folder / MANIFEST} is damaged (grid is {grid!r}); remove {folder} and run `dvc repro`")
    return grid


def _packed_labels(path: Path) -> dict[str, Any] | None:
    """The shape of a label pack from its header, or None if there is no pack."""
    return read_pack_header(path).shape.model_dump() if path.is_file() else None
