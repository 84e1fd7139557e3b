"""`resilience`: measure the accuracy that a coreset loses when its labels are compressed (SCORE, Sec. 6.3, Fig. 5).

Idea. One codec, that of params.yaml, packs the labels of each selector's coreset to smaller and smaller files. If
labels compress well, students lose little; `score` uses R_C in its selection for this purpose. The baseline is one mean
label per image.

Formula. The drop of `dcpipe.studies.drops`, of each selector at each ratio to fp16. A seed is used for selection too,
and both sides of a pair have the same picks.

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
from dcpipe.reports.columns import Column, decimals, text
from dcpipe.studies.base import EntryName, Ratios, Report, StudyBlock, StudyContext
from dcpipe.studies.codecs import BASELINES, CodecEntry, Packing, packings
from dcpipe.studies.coresets import (
    CoresetCell,
    CoresetStudy,
    Entry,
    SelectorEntry,
    check_entries,
    conditions,
    entries_of,
)
from dcpipe.studies.drops import DROP, PACKING, SHOWN, drops
from dcpipe.studies.summary import Row, arranged, grouped, rounded, summarise
from dcpipe.types import NotApplicableError

RESULTS = (
    *("selector", "ipc", *PACKING, "seed", "accuracy"),
    *("image_bytes", "label_bytes", "label_rate", "picks", "note"),
)
SUMMARY = (
    "selector",
    "ipc",
    *PACKING,
    "accuracy",
    "std",
    *DROP,
    "seeds",
    "image_bytes",
    "label_bytes",
    "bytes_per_image",
    "fp16_label_bytes",
    "label_rate",
    "note",
)


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
        *SHOWN,
    )

    @property
    def entries(self) -> list[Entry]:
        return entries_of(self.block.selectors, self.params)

    @property
    def sizes(self) -> list[int]:
        return [self.block.ipc]

    @cached_property
    def packings(self) -> dict[str, Packing]:
        """Uncompressed labels, the mean label, and the codec of params.yaml at every ratio, by name."""
        block = self.params.compression
        codec = {block.codec: CodecEntry(options=block.options)}
        return {str(packing): packing for packing in (*BASELINES, *packings(codec, self.block.ratios))}

    @property
    def budgets(self) -> dict[str, CompressionBlock]:
        return {name: packing.block for name, packing in self.packings.items()}

    def place(self, budget: str) -> Row:
        return self.packings[budget].place

    @cached_property
    def cells(self) -> list[CoresetCell]:
        self.needs_stored_labels()
        if self.params.compression.codec == "none":
            raise NotApplicableError("compression.codec is none: nothing would be compressed; choose a codec")
        return self.all_cells()

    def check(self, context: StudyContext) -> None:
        """Also refuses ratios if the codec cannot reach even the smallest one."""
        super().check(context)
        smallest = list(self.packings.values())[len(BASELINES)]
        with self.error_context(str(smallest)):
            self.labeller(context, smallest.block).plan(self.label_shape(context, self.block.ipc))

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        by_ratio = [row for group in grouped(rounded(rows), ("selector", *PACKING)) for row in group]
        shape = self.label_shape(context, self.block.ipc)
        summary = summarise_drops(by_ratio, shape.reference_bytes, shape.images)
        each = f"labels in fp16 take {shape.reference_bytes // shape.images:,} bytes per image"
        shared = f"{conditions(self.params, self.params.compression.codec)}; {each}"
        figure = figures.png(figures.drops(summary, self.block.split, shared))
        return Report({"results": arranged(by_ratio, RESULTS), "summary": summary}, {"figure": figure})


def summarise_drops(results: Sequence[Row], fp16_bytes: int, images: int) -> list[Row]:
    """One row per selector, codec and ratio of `results`, which have one row per seed, in their order. Uncompressed
    labels and the mean label have the ratio "".

    Accuracy in percent and drop in points are means over seeds, with standard deviations over n - 1; bytes and label
    rate are means too. A ratio that was not reached has a note instead of numbers. `fp16_bytes` is the size of the
    uncompressed soft labels of one coreset of so many `images`; bytes per image are given with every ratio, because a
    ratio to fp16 grows with the number of views.
    """
    means = {"image_bytes": None, "label_bytes": None, "label_rate": 3}
    summary = summarise(results, ("selector", *PACKING), means, same=("ipc", "note"))
    for row, drop in zip(summary, drops(results, ("selector",)), strict=True):
        each = round(row["label_bytes"] / images, 2)
        row |= {"fp16_label_bytes": fp16_bytes, "bytes_per_image": each, **drop}
    return arranged(summary, SUMMARY)
