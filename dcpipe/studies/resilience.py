"""`resilience`: how much accuracy a coreset loses when its soft labels are compressed (SCORE, Sec. 6.3, Fig. 5).

Idea. One codec, that of params.yaml, packs the labels of every selector's coreset to ever smaller files. Where labels
compress well, students lose little; R_C in the selection of `score` is there for that.

Formula. With a(s, r, k) the accuracy in percent of the student of seed k taught the coreset of selector s from labels r
times smaller than fp16, and a(s, k) that of the same student taught the same coreset from uncompressed labels, the drop
is d(s, r, k) = a(s, k) - a(s, r, k), in points; below 0 where compressing helped. Drops are paired by seed: coreset,
student's first weights and order of batches are the same on both sides, so the deviation of d is of compression alone,
while that of a also holds what other picks and other first weights make.

Cost. The teacher labels a coreset once; each ratio is a pack and a student a seed. A ratio that the codec does not
reach has rows that say so.
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
from dcpipe.studies.coresets import CoresetCell, CoresetStudy, Entry, SelectorEntry, conditions, entries_of
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
    "fp16_label_bytes",
    "label_rate",
    "note",
)
UNCOMPRESSED = "uncompressed"
DROP = mean_and_std("drop", "drop", "drop_std")


class ResilienceBlock(StudyBlock):
    """Selectors as in `selection`; the labels of each one's coreset are packed at every ratio to fp16 by the codec of
    params.yaml's block `compression`, whose own budget is not used."""

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ratios: Ratios
    ipc: Count


class ResilienceStudy(CoresetStudy):
    """Every selector's coreset at every ratio."""

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
        size("in fp16", "fp16_label_bytes"),
        mean_and_std("accuracy"),
        Column("drop", "drop", lambda row: DROP.show(row) if row["ratio"] else ""),
    )

    @property
    def entries(self) -> list[Entry]:
        return entries_of(self.block.selectors)

    @property
    def sizes(self) -> list[int]:
        return [self.block.ipc]

    @property
    def budgets(self) -> dict[str, CompressionBlock]:
        """Not at all, and by the workspace's codec at every ratio."""
        asked = self.params.compression
        ratios = {
            f"{ratio:g}x": CompressionBlock(codec=asked.codec, ratio=ratio, options=asked.options)
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
        """Also refuses ratios of which the codec does not reach even the smallest."""
        super().check(context)
        _, (name, smallest), *_ = self.budgets.items()
        with self.error_context(name):
            self.labeller(context, smallest).plan(self.label_shape(context, self.block.ipc))

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        by_ratio = [row for group in grouped(rounded(rows), ("selector", "ratio")) for row in group]
        summary = summarise_drops(by_ratio, self.label_shape(context, self.block.ipc).reference_bytes)
        under = conditions(self.params, self.params.compression.codec)
        figure = figures.png(figures.drops(summary, self.block.split, under))
        return Report({"results": arranged(by_ratio, RESULTS), "summary": summary}, {"figure": figure})


def summarise_drops(results: Sequence[Row], fp16_bytes: int) -> list[Row]:
    """One row a selector and ratio ("" for uncompressed) of `results` (one row a seed), in their order.

    Accuracy in percent and drop in points are means over seeds, with standard deviations over n - 1; bytes and label
    rate are means too. A ratio that was not reached has a note instead of numbers. `fp16_bytes`: what the soft labels
    of one coreset take uncompressed.
    """
    by, means = ("selector", "ratio"), {"image_bytes": None, "label_bytes": None, "label_rate": 3}
    before = {(row["selector"], row["seed"]): row["accuracy"] for row in results if row["ratio"] == ""}
    summary = summarise(results, by, means, same=("ipc", "note"))
    for row, group in zip(summary, grouped(results, by), strict=True):
        drops = ["" if row["note"] else before[r["selector"], r["seed"]] - r["accuracy"] for r in group]
        row |= {"fp16_label_bytes": fp16_bytes, **spread(drops, "drop", "drop_std")}
    return arranged(summary, SUMMARY)
