"""`selection`: compare selectors under the protocol and the budget of params.yaml (SCORE, Sec. 6.3, Fig. 2).

Everything but the selector (teachers, views, codec and budget, students) comes from params.yaml, so that the accuracies
can be compared with each other and with the scores of the workspace. `labels` may add students that are trained on the
same picks with hard labels: soft labels alone can make bad picks nearly as good as good ones. `against` compares every
selector with one of them, seed by seed (`paired.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dcpipe.config.params import CompressionBlock
from dcpipe.config.values import Distinct
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text
from dcpipe.studies.base import CellResult, EntryName, Report, Sizes, StudyBlock, StudyContext
from dcpipe.studies.coresets import (
    HARD,
    CoresetCell,
    CoresetStudy,
    Entry,
    SelectorEntry,
    check_entries,
    conditions,
    entries_of,
)
from dcpipe.studies.paired import DIFFERENCE, differences
from dcpipe.studies.summary import Row, arranged, rounded, summarise
from dcpipe.types import NotApplicableError, require

PLACE = ("selector", "swept", "alpha", "beta", "ipc", "labels")
RESULTS = (*PLACE, "seed", "accuracy", "image_bytes", "label_bytes", "picks")
BYTES = ("image_bytes", "label_bytes", "fp16_label_bytes")
SUMMARY = (*PLACE, "accuracy", "std", "seeds", "against", *DIFFERENCE, *BYTES, "seconds")

Kind = Literal["packed", "hard"]
Kinds = Annotated[list[Kind], Field(min_length=1), Distinct]
DEFAULTS: dict[str, Any] = {"labels": ["packed"], "against": None}


class SelectionBlock(StudyBlock):
    """Selectors by the names that their rows and pictures get.

    `labels`: whether students are trained on the labels of params.yaml (`packed`), on hard labels, or on each of them
    in a row of its own. `against`: the selector that the others are compared with, seed by seed.
    """

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ipc: Sizes
    labels: Kinds = Field(default=DEFAULTS["labels"])
    against: EntryName | None = None

    def check(self, name: str) -> None:
        check_entries(self.selectors, f"{name}.selectors")
        require(
            self.against is None or self.against in self.selectors,
            f"{name}.against is {self.against!r}, which is not in {name}.selectors; add it there, or leave against out",
        )


class SelectionStudy(CoresetStudy):
    """Every selector at every ipc, with labels packed to the budget of params.yaml, hard labels, or both."""

    title: ClassVar[str] = "compare selectors under the protocol of the evaluation (SCORE, Fig. 2)"
    block_type: ClassVar[type[StudyBlock]] = SelectionBlock
    shown: ClassVar[tuple[Column, ...]] = (
        text("selector"),
        text("ipc"),
        Column("label kind", "labels", lambda row: row["labels"]),
        mean_and_std("accuracy"),
        Column("difference", "difference", lambda row: difference_of(row)),
        size("images", "image_bytes"),
        size("labels", "label_bytes"),
        size("in fp16", "fp16_label_bytes"),
        decimals("seconds", 2),
    )

    @property
    def entries(self) -> list[Entry]:
        return entries_of(self.block.selectors, self.params)

    @property
    def sizes(self) -> list[int]:
        return sorted(self.block.ipc)

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds of labels that students are trained on."""
        kinds: Sequence[Kind] = self.block.labels
        return kinds

    @property
    def against(self) -> str | None:
        """The entry that the others are compared with."""
        against: str | None = self.block.against
        return against

    @property
    def teachers(self) -> list[str]:
        return super().teachers if "packed" in self.kinds else []

    @property
    def budgets(self) -> Mapping[str, CompressionBlock | None]:
        """One budget for each of `kinds`, in their order."""
        budgets: dict[str, CompressionBlock | None] = {}
        for kind in self.kinds:
            budgets.update({HARD: None} if kind == "hard" else super().budgets)
        return budgets

    @property
    def block_settings(self) -> dict[str, Any]:
        """Without `labels` and `against` at their defaults, so that a study that does not use them keeps its digest."""
        settings = super().block_settings
        return {key: value for key, value in settings.items() if key not in DEFAULTS or value != DEFAULTS[key]}

    @cached_property
    def cells(self) -> list[CoresetCell]:
        if len(self.kinds) > 1 and self.params.softlabels.method != "stored":
            raise NotApplicableError(
                f"softlabels.method is {self.params.softlabels.method}: there are no labels to pack; choose stored, or "
                f"take packed out of {self.name}.labels in studies/params.yaml"
            )
        return self.all_cells()

    def run(self, context: StudyContext, cell: CoresetCell) -> CellResult:
        """As in every study of coresets, with the kind of labels in each row, if hard labels are asked for."""
        result = super().run(context, cell)
        if "hard" not in self.kinds:
            return result
        rows = [{**row, "labels": kind} for row, kind in zip(result.rows, self.kinds, strict=True)]
        return CellResult(rows, result.pictures)

    def check(self, context: StudyContext) -> None:
        super().check(context)
        for ipc in self.sizes if context.teachers else []:
            with self.error_context(f"ipc {ipc}"):
                self.labeller(context).plan(self.label_shape(context, ipc))

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        """The column `seconds` is the time of selection."""
        rows = rounded(rows)
        place = [name for name in PLACE if name in rows[0]]
        summary = summarise(rows, place, {"image_bytes": None, "label_bytes": None, "seconds": 3})
        if self.against is not None:
            for row, compared in zip(summary, differences(rows, place, "selector", self.against), strict=True):
                row |= {"against": "" if row["selector"] == self.against else self.against, **compared}
        for row in summary:
            soft = context.teachers and row.get("labels") != "hard"
            row["fp16_label_bytes"] = self.label_shape(context, row["ipc"]).reference_bytes if soft else 0
        summary = arranged(summary, SUMMARY)
        shared = conditions(self.params, packed(self.params.compression) if self.teachers else "")
        figure = figures.png(self.draw(summary, shared))
        return Report({"results": arranged(rows, RESULTS), "summary": summary}, {"figure": figure})

    @classmethod
    def heading(cls, rows: Sequence[Row]) -> str:
        """Also says what the differences are."""
        against = next((row["against"] for row in rows if row.get("against")), None)
        explained = f"\ndifference to {against}: mean and 95 % interval over paired seeds" if against else ""
        return super().heading(rows) + explained

    def draw(self, summary: list[Row], conditions: str) -> figures.Figure:
        """The figure of a summary."""
        return figures.bars(summary, self.block.split, conditions)


def difference_of(row: Mapping[str, str]) -> str:
    """A difference with its interval, from a row of summary.csv."""
    if not row["difference"]:
        return ""
    interval = f" ± {float(row['difference_ci']):.1f}" if row["difference_ci"] else ""
    return f"{float(row['difference']):+.1f}{interval}"


def packed(block: CompressionBlock) -> str:
    """How labels are packed, for the conditions under a figure."""
    if block.codec == "none":
        return "uncompressed"
    if block.ratio is not None:
        return f"{block.codec}, {block.ratio:g} times smaller"
    return f"{block.codec}, {block.bytes_per_image:g} bytes per image"
