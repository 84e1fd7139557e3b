"""`students`: train several networks on one condensed set (SCORE, Table 4, and the curves of its supplement, Fig. 1).

Idea. A set is made with one network as the teacher; what is it worth to others? At each number of images per class,
images are picked or synthesised once and labelled and packed once, and every network is trained on this pack under the
protocol of params.yaml. Only the network differs.

Formula. The gap of network s is g(s) = a(s) - a(s0) in points, the difference of mean accuracies, where s0 is the first
network of the list. As SCORE does, every number of images per class is a set of its own, not a prefix of a larger one.

Learning curves. Students are tested `tests` times, evenly spaced, up to the last epoch. These tests change nothing: the
accuracy in the tables is that of the protocol, after the last epoch unless `best_of` says otherwise. `curves.csv` has
the accuracies of all tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import Field

from dcpipe.config.values import Count, Distinct
from dcpipe.reports import figures, pictures
from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text
from dcpipe.studies.base import BYTES, CellResult, Report, Sizes, StudyBlock, StudyContext
from dcpipe.studies.summary import Row, arranged, curve_points, rounded, summarise
from dcpipe.studies.variant_cells import MADE_BY, VariantCell, VariantCellsStudy, conditions
from dcpipe.studies.variants import Variant, settings

RESULTS = ("network", "ipc", "seed", "accuracy", *BYTES, *MADE_BY)
SUMMARY = ("network", "ipc", "accuracy", "std", "gap", "seeds", *BYTES, *MADE_BY, "seconds")


class StudentsBlock(StudyBlock):
    """Networks by their names, as in `evaluation.student`, each at every ipc; the first is the one that others are
    compared with. `tests`: points of the learning curves, at most one per epoch."""

    networks: Annotated[list[str], Field(min_length=1), Distinct]
    ipc: Sizes
    tests: Count = 10


@dataclass(frozen=True, eq=False)
class StudentCell(VariantCell):
    """One network at one ipc; `name` is the network."""


class StudentsStudy(VariantCellsStudy):
    """Every network at every ipc."""

    title: ClassVar[str] = "train several networks on one set at several sizes (SCORE, Table 4)"
    block_type: ClassVar[type[StudyBlock]] = StudentsBlock
    figures: ClassVar[tuple[str, ...]] = ("figure", "curves")
    shown: ClassVar[tuple[Column, ...]] = (
        text("network"),
        text("ipc"),
        mean_and_std("accuracy"),
        decimals("gap", 1, form="+"),
        size("images", "image_bytes"),
        size("labels", "label_bytes"),
        size("in fp16", "fp16_label_bytes"),
    )

    @cached_property
    def cells(self) -> list[StudentCell]:
        cells = []
        for ipc in sorted(self.block.ipc):
            for network in self.block.networks:
                with self.error_context(network):
                    chain = [Variant(evaluation={"student": network})]
                    cells.append(StudentCell(network, ipc, *settings(chain, ipc, self.content)))
        return cells

    @property
    def settings(self) -> dict[str, object]:
        return {**super().settings, "tests": self.block.tests}

    def run(self, context: StudyContext, cell: StudentCell) -> CellResult:
        made = self.make_images(context, cell)
        place = {"network": cell.name, "ipc": cell.ipc}
        rows = [{**place, **row} for row in self.students(context, cell, made, self.block.tests)]
        first = cell.name == self.block.networks[0]
        return CellResult(rows, {f"ipc{cell.ipc}": pictures.grid(made.images)} if first else {})

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        summary, curves = summarise_students(rows, self.block.networks[0]), curve_points(rows, ("network", "ipc"))
        shared, split = conditions(rows), self.block.split
        drawn = {"figure": figures.grouped(summary, split, shared), "curves": figures.curves(curves, split, shared)}
        tables = {"results": arranged(rounded(rows), RESULTS), "summary": summary, "curves": curves}
        return Report(tables, {name: figures.png(figure) for name, figure in drawn.items()})


def summarise_students(rows: Sequence[Row], first: str) -> list[Row]:
    """One row per network and ipc of `rows`, which have one row per seed, in their order. `gap` is the mean accuracy
    minus that of the network `first` at the same ipc, in points, "" for this network; `seconds` is the time of
    selection and synthesis."""
    summary = summarise(rows, ("network", "ipc"), same=(*BYTES, *MADE_BY, "seconds"))
    goal = {row["ipc"]: row["accuracy"] for row in summary if row["network"] == first}
    for row in summary:
        row["gap"] = "" if row["network"] == first else round(row["accuracy"] - goal[row["ipc"]], 3)
    return arranged(summary, SUMMARY)
