"""`resilience`: measure the accuracy that a coreset loses when its labels are compressed (SCORE, Sec. 6.3, Fig. 5).

Idea. One codec, that of params.yaml, packs the labels of each selector's coreset to smaller and smaller files. If
labels compress well, students lose little; `score` uses R_C in its selection for this purpose.

Formula. Let a(s, r, k) be the accuracy in percent of the student of seed k that is trained on the coreset of selector s
with labels r times smaller than fp16, and a(s, k) the accuracy of the same student with uncompressed labels. The drop
is d(s, r, k) = a(s, k) - a(s, r, k), in points; it is negative if compression helped. Drops are paired by seed: both
sides have the same coreset, initial weights and order of batches. So the deviation of d comes from compression alone,
while the deviation of a also contains the effects of different picks and initial weights.

Cost. The teacher labels a coreset once. Each ratio takes one pack, and one student per seed. If the codec cannot reach
a ratio, its rows say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import Field

from dcpipe.config.params import CompressionBlock
from dcpipe.config.values import Count
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text, unless_noted
from dcpipe.studies.base import EntryName, Ratios, Report, StudyBlock, StudyContext
from dcpipe.studies.coresets import (
    CoresetCell,
    CoresetStudy,
    Entry,
    SelectorEntry,
    check_entries,
    conditions,
    entries_of,
)
from dcpipe.studies.summary import Row, arranged, grouped, rounded, spread, summarise
from dcpipe.types import NotApplicableError

RESULTS = ("selector", "ipc", "ratio", "seed", "accuracy", "image_bytes", "label_bytes", "label_rate", "picks", "note")
STUDENTS = ("accuracy", "std", "drop", "drop_std", "seeds")
SUMMARY = (
    "selector",
    "ipc",
    "ratio",
    *STUDENTS,
    "image_bytes",
    "label_bytes",
    "bytes_per_image",
    "fp16_label_bytes",
    "label_rate",
    "note",
)
UNCOMPRESSED = "uncompressed"
DROP = mean_and_std("drop", "drop", "drop_std")


class ResilienceBlock(StudyBlock):
    """Selectors as in the study `selection`. The labels of each coreset are packed at every ratio to fp16 by the codec
    in the block `compression` of params.yaml, whose budget is not used."""

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ratios: Ratios
    ipc: Count

    def check(self, name: str) -> None:
        check_entries(self.selectors, f"{name}.selectors")


class ResilienceStudy(CoresetStudy):
    """The coreset of every selector at every ratio."""

    title: ClassVar[str] = (
        "measure the accuracy lost as the labels of each selector are compressed further (SCORE, Fig. 5)"
    )
    block_type: ClassVar[type[StudyBlock]] = ResilienceBlock
    shown: ClassVar[tuple[Column, ...]] = (
        text("selector"),
        text("ipc"),
        decimals("R_C", 2, "label_rate"),
        Column("ratio", "ratio", lambda row: row["ratio"] or UNCOMPRESSED),
        unless_noted(size("labels", "label_bytes"), "not reached"),
        unless_noted(decimals("per image", 1, "bytes_per_image", ",")),
        size("in fp16", "fp16_label_bytes"),
        mean_and_std("accuracy"),
        Column("drop", "drop", lambda row: DROP.show(row) if row["ratio"] else ""),
    )

    @property
    def entries(self) -> list[Entry]:
        return entries_of(self.block.selectors, self.params)

    @property
    def sizes(self) -> list[int]:
        return [self.block.ipc]

    @property
    def budgets(self) -> dict[str, CompressionBlock]:
        """Uncompressed labels, and the codec of params.yaml at every ratio."""
        block = self.params.compression
        ratios = {
            f"{ratio:g}x": CompressionBlock(codec=block.codec, ratio=ratio, options=block.options)
            for ratio in sorted(self.block.ratios)
        }
        return {UNCOMPRESSED: CompressionBlock(codec="none"), **ratios}

    @cached_property
    def cells(self) -> list[CoresetCell]:
        self.needs_stored_labels()
        if self.params.compression.codec == "none":
            raise NotApplicableError("compression.codec is none: nothing would be compressed; choose a codec")
        return self.all_cells()

    def check(self, context: StudyContext) -> None:
        """Also refuses ratios if the codec cannot reach even the smallest one."""
        super().check(context)
        _, (name, smallest), *_ = self.budgets.items()
        with self.error_context(name):
            self.labeller(context, smallest).plan(self.label_shape(context, self.block.ipc))

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        by_ratio = [row for group in grouped(rounded(rows), ("selector", "ratio")) for row in group]
        shape = self.label_shape(context, self.block.ipc)
        summary = summarise_drops(by_ratio, shape.reference_bytes, shape.images)
        each = f"labels in fp16 take {shape.reference_bytes // shape.images:,} bytes per image"
        shared = f"{conditions(self.params, self.params.compression.codec)}; {each}"
        figure = figures.png(figures.drops(summary, self.block.split, shared))
        return Report({"results": arranged(by_ratio, RESULTS), "summary": summary}, {"figure": figure})


def summarise_drops(results: Sequence[Row], fp16_bytes: int, images: int) -> list[Row]:
    """One row per selector and ratio ("" for uncompressed) of `results`, which have one row per seed, in their order.

    Accuracy in percent and drop in points are means over seeds, with standard deviations over n - 1; bytes and label
    rate are means too. A ratio that was not reached has a note instead of numbers. `fp16_bytes` is the size of the
    uncompressed soft labels of one coreset of so many `images`; bytes per image are given with every ratio, because a
    ratio to fp16 grows with the number of views.
    """
    by, means = ("selector", "ratio"), {"image_bytes": None, "label_bytes": None, "label_rate": 3}
    before = {(row["selector"], row["seed"]): row["accuracy"] for row in results if row["ratio"] == ""}
    summary = summarise(results, by, means, same=("ipc", "note"))
    for row, group in zip(summary, grouped(results, by), strict=True):
        drops = ["" if row["note"] else before[r["selector"], r["seed"]] - r["accuracy"] for r in group]
        row |= {
            "fp16_label_bytes": fp16_bytes,
            "bytes_per_image": round(row["label_bytes"] / images, 2),
            **spread(drops, "drop", "drop_std"),
        }
    return arranged(summary, SUMMARY)
