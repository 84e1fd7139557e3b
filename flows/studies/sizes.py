"""sizes_study: methods and baselines at every size of one set, from picks to students (MDC, Table 1 and Fig. 2).

The block `sizes` of studies/params.yaml names methods, of which each is run at `ipc` images a class and judged by its
first n images, for every n of `sizes`; a base method may have baselines instead, which take runs of their own (see
`dcpipe.studies.sizes`). Runs that rows share are made once, students and labels that they share too. Tasks as those of
`synthesis_study`: one a run's images, a shard of labels, a student; a killed study goes on after the last that was
done, and inside a run.
Output: data/study/sizes: results, summary, figure, a picture of every entry's images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcpipe.config import blocks
from dcpipe.reports import figures, tabular
from dcpipe.studies import selectors, sizes
from dcpipe.studies.sizes import Entry, Part, SizesStudy
from dcpipe.types import ImageSet
from dcpipe.views import multiformation
from flows.running.runtime import Run, main
from flows.studies.variants import Cell, Scene, cells_of, check, conditions, judged, made, opened, show

NAME = "sizes"
Whole = Mapping[str, Cell]  # every method's cell at the study's ipc


@dataclass(frozen=True)
class Place:
    """One entry at one size."""

    entry: Entry
    size: int


def sizes_study_stage(run: Run) -> None:
    """Check, synthesise, label and teach, tabulate and draw, publish."""
    study = selectors.load_sizes()
    content = blocks.read(Path("params.yaml"), "the workspace's parameters")
    whole = {cell.name: cell for cell in cells_of(study.variants, NAME, content)}
    places = [Place(entry, size) for entry in sizes.entries(study) for size in study.judged]
    cells = [cell_of(whole, place) for place in places]
    with opened(run, study.variants, NAME, cells) as scene:
        check(run, study.variants, scene, cells)
        rows = []
        for done, (place, cell) in enumerate(zip(places, cells, strict=True), 1):
            found, seconds = taken(run, scene, whole, place)
            if place.size == study.judged[-1]:
                show(run, scene, cell, found)
            for row in judged(run, study.variants, scene, cell, found, seconds):
                rest = {key: value for key, value in row.items() if key not in ("variant", "ipc")}
                rows.append({"entry": row["variant"], "size": row["ipc"], **rest})
            run.reporter.progress("sizes", done, len(places))
        report(run, study, scene, rows, {str(e): cost(run, scene, whole, e, study) for e in sizes.entries(study)})
        scene.staging.publish("study", {"name": NAME, "split": study.split})


def cell_of(whole: Whole, place: Place) -> Cell:
    """The set that students of one entry and size get, equal for entries whose sets are.

    At the study's ipc baselines A and C are the one run itself; at one image a class A and B are the same run.
    """
    base = whole[place.entry.method]
    parts = sizes.parts(place.entry, place.size, base.ipc)
    cell = part_of(base, parts[0]) if len(parts) == 1 else replace(base, taken=f"{len(parts)} joined")
    size = "" if len(parts) > 1 or parts[0].stop == place.size else f"first {place.size}"
    return replace(cell, name=str(place.entry), ipc=place.size, taken=cell.taken or size)


def part_of(base: Cell, part: Part) -> Cell:
    """One run of a method: its rounds of the picks and its seed."""
    block = base.params.synthesis
    own = base.params.model_copy(update={"synthesis": block.model_copy(update={"seed": block.seed + part.step})})
    rounds = None if (part.start, part.stop) == (0, base.ipc) else (part.start, part.stop)
    name = base.name if rounds is None else f"{base.name}-from-{part.start}"
    return replace(base, name=name, ipc=part.stop - part.start, params=own, rounds=rounds)


def taken(run: Run, scene: Scene, whole: Whole, place: Place) -> tuple[ImageSet, float]:
    """An entry's images at one size, and the seconds of the runs that they come from."""
    base = whole[place.entry.method]
    parts = sizes.parts(place.entry, place.size, base.ipc)
    runs = [made(run, scene, part_of(base, part)) for part in parts]
    images = sizes.joined([found for found, _ in runs])
    if parts[-1].stop > place.size:
        # What a smaller size is, MDC's option says.
        images = multiformation.subset(images, place.size, base.params.synthesis.options.get("by", "images"))
    return images, sum(seconds for _, seconds in runs)


def cost(run: Run, scene: Scene, whole: Whole, entry: Entry, study: SizesStudy) -> float:
    """The seconds of all runs that an entry's sizes take."""
    base = whole[entry.method]
    runs = dict.fromkeys(part for size in study.judged for part in sizes.parts(entry, size, base.ipc))
    return sum(made(run, scene, part_of(base, part))[1] for part in runs)


def report(run: Run, study: SizesStudy, scene: Scene, rows: list[dict[str, Any]], seconds: Mapping[str, float]) -> None:
    """Tables and the figure, on the bench and to whoever watches."""
    root = scene.staging.root
    results = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    tabular.write_csv(root / "results.csv", [{**row, "accuracy": round(row["accuracy"], 3)} for row in results])
    spent = {entry: round(total, 1) for entry, total in seconds.items()}
    summary = sizes.summary(rows, spent, sizes.made_for_size(study))
    tabular.write_csv(root / "summary.csv", summary)
    figure = figures.png(figures.sizes(summary, study.split, conditions(rows)))
    (root / "figure.png").write_bytes(figure)
    run.reporter.table("sizes summary", summary)
    run.reporter.image("sizes figure", figure)


if __name__ == "__main__":
    main(sizes_study_stage, "sizes_study")
