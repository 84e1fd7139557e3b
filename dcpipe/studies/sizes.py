"""`sizes`: test one set at every smaller size, with the baselines of MDC (He et al., ICLR 2024, Table 1, Fig. 2).

The first n images of each class of a set of N images per class are a set of n < N images per class. A method is run at
N and scored at each of these sizes, and by the average over them. Instead, a base method can be run as three baselines:

* A: a separate run for every size; the best possible at each size, but with N runs and N sets to store
* B: N runs of one image per class, each from other real images and with the next seed, joined
* C: the first images of one run at N; the cheapest, and what a method for every size has to beat
* lfs, lbs: one run at N, slimmed to the bytes of n images without the real ones: by truncated singular value
  decomposition, or then trained at every size (Table 2c; `dcpipe.synthesis.slimmable`, which says what is our reading
  of slimmable condensation). C is their control.

With `runs`, a method and its baselines are condensed several times with other seeds (Table 6). Each run is an entry,
and `runs.csv` has means and deviations over runs, which the seeds of students do not show. With `same_start`, later
runs start from the images of the first, so that `gallery.png` shows what became of the same image (Figs. 6, 10-15).

With `snapshots`, the set is also scored as it was after these outer loops of matching, 0 at the start (Fig. 4,
Tables 10, 11). Each is an entry, and `loops.csv` has them with the seconds of synthesis until then.

With slimmed sets, the summary also has what each entry needs for all sizes, the paper's R: its `condensations` (a
training of `lbs` counts as one) and the `stored` images per class, where lbs stores a set for each size. `slimming.csv`
has the rank, bytes and errors of each slimmed set.

The degradation of a smaller size is the accuracy that it lacks compared with a set made for this size (A).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from dcpipe.evaluation.contenders import Contender
from dcpipe.reports import figures, pictures
from dcpipe.reports.columns import Column, decimals, mean_and_std, text
from dcpipe.studies import slimmed_cells, snapshots
from dcpipe.studies.base import BYTES, CellResult, Report, StudyBlock, StudyContext
from dcpipe.studies.size_entries import Baseline, Entry, Method, Part, SizesBlock, entries, made_for_size, parts
from dcpipe.studies.slimmed_cells import Slimmed, Slimming
from dcpipe.studies.summary import Row, arranged, grouped, rounded, spread, summarise
from dcpipe.studies.variant_cells import MADE_BY, Made, VariantCell, VariantCellsStudy, conditions, labelled
from dcpipe.studies.variants import settings
from dcpipe.synthesis import slimmable
from dcpipe.types import ImageSet, require
from dcpipe.views import multiformation

AVERAGE = "average"
SAME = ("image_bytes", "label_bytes", "protocol", "seconds")
NO_ENTRY = Entry("", None)
RESOURCES = ("condensations", "stored")
RESULTS = ("entry", "size", "seed", "accuracy", *BYTES, *MADE_BY)


@dataclass(frozen=True, eq=False)
class SizeCell(VariantCell):
    """One entry at one size; `runs` are the cells of the runs that its images come from, and `slimming` is how the set
    of its only run was made smaller, if it was."""

    entry: Entry = NO_ENTRY
    runs: tuple[VariantCell, ...] = ()
    slimming: Slimming | None = None


class SizesStudy(VariantCellsStudy):
    """Every method and baseline at every size. Entries share runs where they can."""

    title: ClassVar[str] = (
        "test one set at every smaller size, with baselines A, B and C and slimmed sets (MDC, Tables 1 and 2c)"
    )
    block_type: ClassVar[type[StudyBlock]] = SizesBlock

    @cached_property
    def whole(self) -> dict[str, VariantCell]:
        """The cell of every method at the ipc of the study."""
        cells = {}
        for name, method in self.block.methods.items():
            with self.error_context(name):
                cell = VariantCell(name, self.block.ipc, *settings([method], self.block.ipc, self.content))
                check_snapshots(method, cell)
                cells[name] = cell
        return cells

    @cached_property
    def cells(self) -> list[SizeCell]:
        whole = self.whole
        for entry in entries(self.block):
            if entry.baseline == "lbs":
                with self.error_context(entry.method):
                    block = whole[entry.method].params.synthesis
                    slimmable.check_method(block.method, block.options)
        return [
            cell_of(self.whole[entry.method], entry, size, self.block.methods[entry.method])
            for entry in entries(self.block)
            for size in self.block.scored
        ]

    def run(self, context: StudyContext, cell: SizeCell) -> CellResult:
        made, contender = self.images_of(context, cell), None
        if cell.slimming:
            contender = partial(self.slimmed_contender, context, cell)
        place = {"entry": str(cell.entry), "size": cell.ipc}
        rows = [{**place, **row} for row in self.students(context, cell, made, contender=contender)]
        shown = cell.slimming or cell.ipc == self.block.scored[-1]
        return CellResult(rows, {str(cell): pictures.grid(made.images)} if shown else {})

    def images_of(self, context: StudyContext, cell: SizeCell) -> Made:
        """The images of an entry at one size, and the seconds of the runs that they come from."""
        if cell.slimming:
            whole, made = self.make_images(context, cell.runs[0]), self.slimmed(context, cell).made
            return replace(made, seconds=whole.seconds + made.seconds)
        runs = [self.make_images(context, run, cell.entry.loop) for run in cell.runs]
        images = joined([made.images for made in runs])
        if cell.runs[-1].ipc > cell.ipc:
            images = multiformation.subset(images, cell.ipc)
        return Made(images, sum(made.seconds for made in runs))

    def slimmed(self, context: StudyContext, cell: SizeCell) -> Slimmed:
        """The slimmed set of a cell, which is made once."""
        assert cell.slimming
        slimming, run = cell.slimming, cell.runs[0]
        whole = self.make_images(context, run).images
        name = f"slimmed-{cell.digest('selection', 'synthesis')}"
        if (saved := context.notes.load_arrays(name)) is None:

            def slim(cell: SizeCell) -> Slimmed:
                with self.error_context(str(cell.entry), f"size {cell.ipc}"):
                    notes = context.notes.within(name)
                    return slimmed_cells.slimmed(context, slimming, whole, cell.ipc, run.params, notes)

            [found] = context.map_tasks(slim, [cell], str, retries=2, progress=f"slim {cell}")
            saved = slimmed_cells.saved(found)
            context.notes.save_arrays(name, **saved)
            context.notes.remove(name)
        return slimmed_cells.of_saved(saved, whole)

    def slimmed_contender(self, context: StudyContext, cell: SizeCell) -> Contender:
        """A slimmed set with its labels. It takes the bytes of its components, not those of the images that they decode
        to."""
        found = self.slimmed(context, cell)
        return replace(labelled(context, cell, found.made.images), image_bytes=found.row["bytes"])

    def slimming(self, context: StudyContext) -> list[Row]:
        """A row for each slimmed set: its entry, size, and `slimmed_cells.COLUMNS`."""
        cells = [cell for cell in self.cells if cell.slimming]
        return [{"entry": str(cell.entry), "size": cell.ipc, **self.slimmed(context, cell).row} for cell in cells]

    def seconds(self, context: StudyContext) -> dict[str, float]:
        """By entry, the seconds of all runs that its sizes need, and of slimming; shared runs count once."""
        runs: dict[Entry, dict[str, VariantCell]] = {}
        for cell in self.cells:
            entry_runs = runs.setdefault(cell.entry, {})
            entry_runs |= {run.digest("selection", "synthesis"): run for run in cell.runs}
        sums = {
            str(entry): sum(self.make_images(context, run, entry.loop).seconds for run in own.values())
            for entry, own in runs.items()
        }
        for cell in self.cells:
            if cell.slimming:
                sums[str(cell.entry)] += self.slimmed(context, cell).made.seconds
        return {entry: round(seconds, 1) for entry, seconds in sums.items()}

    def gallery(self, context: StudyContext) -> bytes:
        """The first image of each class at the smallest size, one row per entry (MDC, Figs. 6, 10-15)."""
        smallest = [cell for cell in self.cells if cell.ipc == self.block.scored[0]]
        return pictures.gallery({str(cell.entry): self.images_of(context, cell).images.prefix(1) for cell in smallest})

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        summary = summarise_sizes(rows, self.seconds(context), made_for_size(self.block))
        slimming = self.slimming(context)
        if slimming:
            add_resources(summary, self.block)
        baselines = {str(entry): entry.baseline or "" for entry in entries(self.block)}
        drawn = [{**row, "baseline": baselines[row["entry"]]} for row in summary]
        figure = figures.png(figures.sizes(drawn, self.block.split, conditions(rows)))
        tables = {"results": arranged(rounded(rows), RESULTS), "summary": summary}
        if over_runs := summarise_runs(summary, list(entries(self.block))):
            tables["runs"] = over_runs
        if slimming:
            tables["slimming"] = slimming
        drawings = {"figure": figure, "gallery": self.gallery(context)}
        outer = {name: snapshots.outer_loops(cell.params.synthesis) for name, cell in self.whole.items()}
        if loops := by_loop(summary, list(entries(self.block)), outer):
            tables["loops"] = loops
            average = [row for row in loops if row["size"] == AVERAGE]
            drawn_as = {"x": "loop", "by": "entry", "title": "Average over sizes", "axis": "outer loops"}
            course = figures.against(average, self.block.split, conditions(rows), **drawn_as)
            drawings["loops"] = figures.png(course)
        return Report(tables, drawings)

    @classmethod
    def lines(cls, rows: Sequence[Row]) -> list[Row]:
        """One line per entry, with its accuracies by size and the row of its average (MDC, Table 1, transposed)."""
        return [{**{row["size"]: row["accuracy"] for row in group}, **group[-1]} for group in grouped(rows, ("entry",))]

    @classmethod
    def columns(cls, rows: Sequence[Row]) -> list[Column]:
        """The columns of the table. `degradation` is what an entry lacks, on average over sizes, compared with runs
        made for each size; `seconds` is the time of all its runs. With slimmed sets, there are also the numbers of
        condensations and of stored images."""
        sizes = [size for size in dict.fromkeys(row["size"] for row in rows) if size != AVERAGE]
        return [
            text("entry"),
            *(decimals(size, 1) for size in sizes),
            mean_and_std(AVERAGE),
            decimals("degradation", 1),
            decimals("seconds", 1),
            *(text(key) for key in RESOURCES if key in rows[0]),
        ]


def check_snapshots(method: Method, cell: VariantCell) -> None:
    """Raises `DataError` for snapshots that no run of a method would make."""
    snapshots.check(method.snapshots, cell.params.synthesis)
    require(
        not method.snapshots or not method.baselines or "C" in method.baselines,
        f"snapshots are of the run at the whole size, but baselines is {method.baselines}; add C, or remove snapshots",
    )


def cell_of(whole: VariantCell, entry: Entry, size: int, method: Method | None = None) -> SizeCell:
    """The cell of one entry and size. Its digest equals that of other entries with the same set.

    At the ipc of the study, baselines A, C, lfs and lbs are the same run; at one image per class, A and B are.
    """
    method = method or Method()
    runs = tuple(run_of(whole, part, method) for part in parts(entry, size, whole.ipc))
    if len(runs) > 1:
        params, rounds, subset = whole.params, None, f"{len(runs)} joined"
    else:
        params, rounds = runs[0].params, runs[0].rounds
        subset = "" if runs[0].ipc == size else f"first {size}"
        subset += "" if entry.loop is None else f" after {entry.loop}"
    slimming: Slimming | None = None
    if subset and entry.baseline in ("lfs", "lbs"):
        slimming, subset = entry.baseline, f"{entry.baseline} {size}"
    start_seed = runs[0].start_seed
    return SizeCell(str(entry), size, params, whole.labels, rounds, subset, start_seed, (), entry, runs, slimming)


def run_of(whole: VariantCell, part: Part, method: Method) -> VariantCell:
    """One run of a method, with its rounds of the picks and its seed."""
    block = whole.params.synthesis
    first = part.step % whole.ipc  # of the same part in the first run
    start_seed = block.seed + first if method.same_start and first != part.step else None
    keeps = tuple(sorted(method.snapshots)) if part.stop - part.start == whole.ipc else ()
    params = whole.params.model_copy(update={"synthesis": block.model_copy(update={"seed": block.seed + part.step})})
    rounds = None if (part.start, part.stop) == (0, whole.ipc) else (part.start, part.stop)
    name = whole.name if rounds is None else f"{whole.name}-from-{part.start}"
    own: dict[str, Any] = {"params": params, "rounds": rounds, "start_seed": start_seed, "keeps": keeps}
    return replace(whole, name=name, ipc=part.stop - part.start, **own)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """Sets of the same kind, one after the other, as one set; their ids must be distinct."""
    first = sets[0]
    for other in sets[1:]:
        same = (other.classes, other.grid, other.by) == (first.classes, first.grid, first.by)
        require(same, "sets to join differ in classes, grid or by; make them by one method from one source")
    images, labels, ids = (np.concatenate([getattr(s, key) for s in sets]) for key in ("images", "labels", "ids"))
    return ImageSet(images, labels, ids, first.classes, first.grid, first.by)


def summarise_sizes(results: Sequence[Row], seconds: Mapping[str, float], against: Mapping[str, str]) -> list[Row]:
    """One row per entry and size of `results`, which have one row per seed, in their order, and after the last size of
    an entry a row with its average.

    Accuracy is in percent, as mean and standard deviation (n - 1) over seeds. In the row of the average, each seed
    counts with its mean over the sizes. `seconds` has the time of all runs of each entry, for the row of the average.
    `against` names, for each entry, the one that its `degradation` is counted from, at the same size.
    """
    rows: list[Row] = []
    for group in grouped(results, ("entry",)):
        entry = group[0]["entry"]
        rows += summarise(group, ("entry", "size"), same=SAME)
        means = [fmean(row["accuracy"] for row in seed) for seed in grouped(group, ("seed",))]
        nothing = {"image_bytes": "", "label_bytes": "", "protocol": rows[-1]["protocol"]}
        average = {**spread(means), "seeds": len(means), **nothing, "seconds": seconds[entry]}
        rows.append({"entry": entry, "size": AVERAGE, **average})
    reached = {(row["entry"], row["size"]): row["accuracy"] for row in rows}
    for row in rows:
        goal = reached.get((against.get(row["entry"], ""), row["size"]))
        row["degradation"] = "" if goal is None else round(goal - row["accuracy"], 3)
    return rows


def resources(baseline: Baseline | None, scored: Sequence[int], ipc: int) -> tuple[int, int]:
    """What an entry needs for all sizes, R in MDC's Table 2c: condensations, and stored images per class."""
    if baseline == "A":
        return len(scored), sum(scored)
    if baseline == "B":
        return max(scored), max(scored)
    if baseline == "lbs":
        below = [size for size in scored if size < ipc]
        return 1 + len(below), ipc + sum(below)
    return 1, ipc


def add_resources(summary: Sequence[Row], block: SizesBlock) -> None:
    """Add the `resources` of each entry to the row of its average, and empty columns to its other rows."""
    needs = {str(entry): resources(entry.baseline, block.scored, block.ipc) for entry in entries(block)}
    for row in summary:
        found = needs[row["entry"]] if row["size"] == AVERAGE else ("", "")
        row.update(zip(RESOURCES, found, strict=True))


def summarise_runs(summary: Sequence[Row], among: Sequence[Entry]) -> list[Row]:
    """For each method and baseline with several runs, a row per size and one for the average: mean and deviation
    (n - 1) over runs of the accuracies in `summary`, each of which is a mean over students (MDC, Table 6)."""
    several = {str(entry): entry.of_all_runs for entry in among if entry.run is not None}
    named = [{**row, "entry": several[row["entry"]]} for row in summary if row["entry"] in several]
    return [
        {
            **{key: group[0][key] for key in ("entry", "size")},
            **spread([row["accuracy"] for row in group]),
            "runs": len(group),
        }
        for group in grouped(named, ("entry", "size"))
    ]


def by_loop(summary: Sequence[Row], among: Sequence[Entry], outer: Mapping[str, int | None]) -> list[Row]:
    """The rows of entries with snapshots, and of the same runs in the end, by entry (without its loop), loop and size:
    the seconds of synthesis until then, and the accuracy (MDC, Fig. 4, Tables 10, 11). `outer` by method."""
    whole = {str(entry): replace(entry, loop=None) for entry in among}
    watched = {str(whole[str(entry)]) for entry in among if entry.loop is not None}
    loops = {str(entry): outer[entry.method] if entry.loop is None else entry.loop for entry in among}
    return [
        {"entry": str(whole[row["entry"]]), "loop": loops[row["entry"]]}
        | {key: row[key] for key in ("seconds", "size", "accuracy", "std", "seeds")}
        for row in summary
        if str(whole[row["entry"]]) in watched
    ]
