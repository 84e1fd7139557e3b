"""`sizes`: one condensed set at every smaller size, and the baselines of MDC (He et al., ICLR 2024, Table 1, Fig. 2).

A set of N images per class is also one of n < N: its first n of every class. A method is run at N and scored at every
such size, and by the average over them. A base method can stand for three baselines instead:

* A: a run of its own for every size; the best that a size can have, at N times the cost and N sets to store
* B: N runs of one image per class, each from other real images and with the next seed, joined
* C: the first images of its one run at N; the cheapest, and what a method for every size has to beat

What a smaller size lacks of a set made for it (A) is its degradation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from dcpipe.config.values import Count, Distinct
from dcpipe.reports import figures, pictures
from dcpipe.reports.columns import Column, decimals, mean_and_std, text
from dcpipe.studies.base import CellResult, EntryName, Report, Sizes, StudyBlock, StudyContext
from dcpipe.studies.summary import Row, arranged, grouped, rounded, spread, summarise
from dcpipe.studies.variant_cells import BYTES, MADE_BY, Made, VariantCell, VariantCellsStudy, conditions
from dcpipe.studies.variants import Variant, settings
from dcpipe.types import ImageSet, require
from dcpipe.views import multiformation

Baseline = Literal["A", "B", "C"]
AVERAGE = "average"
SAME = ("image_bytes", "label_bytes", "protocol", "seconds")
RESULTS = ("entry", "size", "seed", "accuracy", *BYTES, *MADE_BY)


class Method(Variant):
    """A variant of params.yaml whose one run is scored at every size or, with `baselines`, stands for these."""

    baselines: Annotated[list[Baseline], Distinct] = Field(default=[])


class SizesBlock(StudyBlock):
    """Methods by the names that rows get, run at `ipc` images per class. `sizes`: 1 to `ipc` unless given."""

    methods: Annotated[dict[EntryName, Method], Field(min_length=1)]
    ipc: Count
    sizes: Sizes | None = None

    @property
    def scored(self) -> tuple[int, ...]:
        """The sizes, ascending."""
        return tuple(sorted(self.sizes or range(1, self.ipc + 1)))

    def check(self, name: str) -> None:
        above = [size for size in self.scored if size > self.ipc]
        require(not above, f"{name}.sizes has {above[:1]}, but {name}.ipc is {self.ipc}; raise it, or drop them")


@dataclass(frozen=True)
class Entry:
    """A line of the figure: a method by its own run at N, which is baseline C too, or by baseline A or B."""

    method: str
    baseline: Baseline | None

    def __str__(self) -> str:
        return f"{self.method}-{self.baseline}" if self.baseline else self.method


@dataclass(frozen=True)
class Part:
    """One run: it starts from rounds `start` .. `stop` - 1 of the picks at N, with `step` added to its seed."""

    start: int
    stop: int
    step: int = 0


@dataclass(frozen=True, eq=False)
class SizeCell(VariantCell):
    """One entry at one size: `runs` are the cells of the runs whose images it takes."""

    entry: Entry = Entry("", None)
    runs: tuple[VariantCell, ...] = ()


class SizesStudy(VariantCellsStudy):
    """Every method and baseline at every size. Runs that entries share are made once."""

    title: ClassVar[str] = (
        "test one set at every smaller size, with baselines A, B and C of its base method (MDC, Table 1)"
    )
    block_type: ClassVar[type[StudyBlock]] = SizesBlock
    figures: ClassVar[tuple[str, ...]] = ("figure",)

    @cached_property
    def whole(self) -> dict[str, VariantCell]:
        """Every method's cell at the study's ipc."""
        cells = {}
        for name, method in self.block.methods.items():
            with self.error_context(name):
                cells[name] = VariantCell(name, self.block.ipc, *settings([method], self.block.ipc, self.content))
        return cells

    @cached_property
    def cells(self) -> list[SizeCell]:
        return [
            cell_of(self.whole[entry.method], entry, size)
            for entry in entries(self.block)
            for size in self.block.scored
        ]

    def run(self, context: StudyContext, cell: SizeCell) -> CellResult:
        made = self.taken(context, cell)
        place = {"entry": str(cell.entry), "size": cell.ipc}
        rows = [{**place, **row} for row in self.students(context, cell, made)]
        largest = cell.ipc == self.block.scored[-1]
        return CellResult(rows, {str(cell): pictures.grid(made.images)} if largest else {})

    def taken(self, context: StudyContext, cell: SizeCell) -> Made:
        """An entry's images at one size, and the seconds of the runs that they come from."""
        runs = [self.make_images(context, run) for run in cell.runs]
        images = joined([made.images for made in runs])
        if cell.runs[-1].ipc > cell.ipc:
            images = multiformation.subset(images, cell.ipc)
        return Made(images, sum(made.seconds for made in runs))

    def seconds(self, context: StudyContext) -> dict[str, float]:
        """By entry, the seconds of all runs that its sizes take."""
        runs: dict[str, dict[str, VariantCell]] = {}
        for cell in self.cells:
            found = runs.setdefault(str(cell.entry), {})
            found |= {run.digest("selection", "synthesis"): run for run in cell.runs}
        return {
            entry: round(sum(self.make_images(context, run).seconds for run in own.values()), 1)
            for entry, own in runs.items()
        }

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        summary = summarise_sizes(rows, self.seconds(context), made_for_size(self.block))
        baselines = {str(entry): entry.baseline or "" for entry in entries(self.block)}
        drawn = [{**row, "baseline": baselines[row["entry"]]} for row in summary]
        figure = figures.png(figures.sizes(drawn, self.block.split, conditions(rows)))
        return Report({"results": arranged(rounded(rows), RESULTS), "summary": summary}, {"figure": figure})

    @classmethod
    def lines(cls, rows: Sequence[Row]) -> list[Row]:
        """One line an entry (MDC, Table 1, turned): its accuracies by size, and all that its average says."""
        return [{**{row["size"]: row["accuracy"] for row in group}, **group[-1]} for group in grouped(rows, ("entry",))]

    @classmethod
    def columns(cls, rows: Sequence[Row]) -> list[Column]:
        """`degradation`: what an entry lacks, on average over sizes, of runs made for each size; `seconds` are those of
        all the runs that it takes."""
        sizes = [size for size in dict.fromkeys(row["size"] for row in rows) if size != AVERAGE]
        return [
            text("entry"),
            *(decimals(size, 1) for size in sizes),
            mean_and_std(AVERAGE),
            decimals("degradation", 1),
            decimals("seconds", 1),
        ]


def entries(block: SizesBlock) -> Iterator[Entry]:
    """In the order of the file, then of A, B, C."""
    for name, method in block.methods.items():
        yield from (Entry(name, baseline) for baseline in (*sorted(method.baselines),) or (None,))


def made_for_size(block: SizesBlock) -> dict[str, str]:
    """The baseline A that an entry's degradation is counted from, by entry: its own method's, else the only one there
    is; none is left out."""
    with_a = [name for name, method in block.methods.items() if "A" in method.baselines]
    found = {}
    for entry in entries(block):
        own = entry.method if entry.method in with_a else with_a[0] if len(with_a) == 1 else None
        if own is not None and entry.baseline != "A":
            found[str(entry)] = str(Entry(own, "A"))
    return found


def parts(entry: Entry, size: int, ipc: int) -> tuple[Part, ...]:
    """The runs that an entry's `size` images per class come from; equal parts of one method are one run.

    A: from the first `size` rounds of the picks. B: run k from round k, seed + k. Else the run of all `ipc` rounds, of
    which the first `size` images of each class are taken.
    """
    if entry.baseline == "A":
        return (Part(0, size),)
    if entry.baseline == "B":
        return tuple(Part(k, k + 1, k) for k in range(size))
    return (Part(0, ipc),)


def cell_of(whole: VariantCell, entry: Entry, size: int) -> SizeCell:
    """The set that students of one entry and size get, equal for entries whose sets are.

    At the study's ipc baselines A and C are the one run itself; at one image per class A and B are the same run.
    """
    runs = tuple(run_of(whole, part) for part in parts(entry, size, whole.ipc))
    if len(runs) > 1:
        params, rounds, taken = whole.params, None, f"{len(runs)} joined"
    else:
        params, rounds = runs[0].params, runs[0].rounds
        taken = "" if runs[0].ipc == size else f"first {size}"
    return SizeCell(str(entry), size, params, whole.labels, rounds, taken, entry, runs)


def run_of(whole: VariantCell, part: Part) -> VariantCell:
    """One run of a method: its rounds of the picks and its seed."""
    block = whole.params.synthesis
    own = whole.params.model_copy(update={"synthesis": block.model_copy(update={"seed": block.seed + part.step})})
    rounds = None if (part.start, part.stop) == (0, whole.ipc) else (part.start, part.stop)
    name = whole.name if rounds is None else f"{whole.name}-from-{part.start}"
    return replace(whole, name=name, ipc=part.stop - part.start, params=own, rounds=rounds)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """The rows of one set after those of another of the same kind; ids stay distinct."""
    first = sets[0]
    for other in sets[1:]:
        same = (other.classes, other.grid, other.by) == (first.classes, first.grid, first.by)
        require(same, "sets to join differ in classes, grid or by; make them by one method from one source")
    images, labels, ids = (np.concatenate([getattr(s, key) for s in sets]) for key in ("images", "labels", "ids"))
    return ImageSet(images, labels, ids, first.classes, first.grid, first.by)


def summarise_sizes(results: Sequence[Row], seconds: Mapping[str, float], against: Mapping[str, str]) -> list[Row]:
    """One row an entry and size of `results` (one row a seed), in their order, and after an entry's last size its
    average.

    Accuracy in percent: mean over seeds and standard deviation (n - 1); of the average, of what each seed has on
    average over the sizes. `seconds`: by entry, those of all its runs, which the row of the average gets. `against`:
    by entry, the one whose accuracy at the same size, less its own, is its `degradation`.
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
