"""`selection`: compare selectors under the protocol and the budget of params.yaml (SCORE, Sec. 6.3, Fig. 2).

Everything but the selector (teachers, views, codec and budget, students) comes from params.yaml, so that the accuracies
can be compared with each other and with the scores of the workspace.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from dcpipe.config.params import CompressionBlock
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text
from dcpipe.studies.base import EntryName, Report, Sizes, StudyBlock, StudyContext
from dcpipe.studies.coresets import CoresetStudy, Entry, SelectorEntry, check_entries, conditions, entries_of
from dcpipe.studies.summary import Row, arranged, rounded, summarise

PLACE = ("selector", "swept", "alpha", "beta", "ipc")
RESULTS = (*PLACE, "seed", "accuracy", "image_bytes", "label_bytes", "picks")
SUMMARY = (*PLACE, "accuracy", "std", "seeds", "image_bytes", "label_bytes", "fp16_label_bytes", "seconds")


class SelectionBlock(StudyBlock):
    """Selectors by the names that their rows and pictures get."""

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ipc: Sizes

    def check(self, name: str) -> None:
        check_entries(self.selectors, f"{name}.selectors")


class SelectionStudy(CoresetStudy):
    """Every selector at every ipc, with labels packed to the budget of params.yaml."""

    title: ClassVar[str] = "compare selectors under the protocol of the evaluation (SCORE, Fig. 2)"
    block_type: ClassVar[type[StudyBlock]] = SelectionBlock
    shown: ClassVar[tuple[Column, ...]] = (
        text("selector"),
        text("ipc"),
        mean_and_std("accuracy"),
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
        for row in summary:
            row["fp16_label_bytes"] = self.label_shape(context, row["ipc"]).reference_bytes if context.teachers else 0
        summary = arranged(summary, SUMMARY)
        figure = figures.png(self.draw(summary, conditions(self.params, packed(self.params.compression))))
        return Report({"results": arranged(rows, RESULTS), "summary": summary}, {"figure": figure})

    def draw(self, summary: list[Row], conditions: str) -> figures.Figure:
        """The figure of a summary."""
        return figures.bars(summary, self.block.split, conditions)


def packed(block: CompressionBlock) -> str:
    """How labels are packed, for the conditions under a figure."""
    if block.codec == "none":
        return "uncompressed"
    if block.ratio is not None:
        return f"{block.codec}, {block.ratio:g} times smaller"
    return f"{block.codec}, {block.bytes_per_image:g} bytes per image"
