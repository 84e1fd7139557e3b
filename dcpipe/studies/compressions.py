"""`compressions`: image sets x codecs x ratios (SCORE, Table 2, Fig. 5, and the curves of its supplement, Fig. 1).

Idea. Does a codec lose as much on synthesised images as on picked ones? Every variant of params.yaml makes a set of
images at every number of images per class, and the labels of every set are packed by every codec at every ratio to
fp16. SCORE counts ratios to fp32: its 10x, 20x and 30x are 5, 10 and 15 here.

Formula. The drop of `dcpipe.studies.drops`: the accuracy of the same set with uncompressed labels, minus that with
compressed labels, paired by seed. The baseline of all codecs is one mean label per image.

Cost. Images are made once and labelled once; each codec at each ratio takes one pack, and one student per seed. If a
codec does not reach a ratio, its rows say so.

Learning curves. With `tests`, students are tested so many times, evenly spaced, up to the last epoch. These tests
change nothing. `curves.csv` has the accuracies, and `curves.png` shows training with and without compression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dcpipe.config.params import CompressionBlock, Params
from dcpipe.config.values import Natural
from dcpipe.evaluation.contenders import Contender
from dcpipe.reports import figures, pictures
from dcpipe.reports.columns import Column, text
from dcpipe.studies.base import CellResult, EntryName, Ratios, Report, Sizes, StudyBlock, StudyContext
from dcpipe.studies.codecs import BASELINES, CodecEntry, Packing, check_codecs, packings
from dcpipe.studies.drops import DROP, PACKING, SHOWN, drops
from dcpipe.studies.summary import Row, arranged, curve_points, rounded, summarise
from dcpipe.studies.variant_cells import (
    MADE_BY,
    VariantCell,
    VariantCellsStudy,
    conditions,
    labeller_of,
    shape_of,
    teachers_of,
)
from dcpipe.studies.variants import Variant, settings
from dcpipe.types import ImageSet, require

SET = ("variant", "ipc")
SIZES = ("image_bytes", "label_bytes", "bytes_per_image", "fp16_label_bytes")
FROM = ("synthesis", "student", "protocol")
RESULTS = (*SET, *PACKING, "seed", "accuracy", *SIZES, *FROM, "note")
SUMMARY = (*SET, *PACKING, "accuracy", "std", *DROP, "seeds", *SIZES, *FROM, "note")


class CompressionsBlock(StudyBlock):
    """Variants as in the study `syntheses`, without changes of `compression`, each at every ipc; their labels are
    packed by codecs as in the study `labels`, each at every ratio to fp16. `tests`: points of the learning curves, at
    most one per epoch; 0 for none."""

    variants: Annotated[dict[EntryName, Variant], Field(min_length=1)]
    codecs: Annotated[dict[EntryName, CodecEntry], Field(min_length=1)]
    ratios: Ratios
    ipc: Sizes
    tests: Natural = 0


@dataclass(frozen=True, eq=False)
class CompressionCell(VariantCell):
    """One variant at one ipc, with all its packings. `packed` is the name of the one in `params`, or ""."""

    packed: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()}-{self.packed}" if self.packed else super().__str__()

    def packed_as(self, packing: Packing) -> CompressionCell:
        """The same images with the labels of one packing."""
        return replace(self, params=compressed(self.params, packing.block), packed=str(packing))


class CompressionsStudy(VariantCellsStudy):
    """The images of every variant at every ipc, with labels packed by every codec at every ratio."""

    title: ClassVar[str] = "compare image sets, each with labels of every codec at every ratio (SCORE, Table 2, Fig. 5)"
    block_type: ClassVar[type[StudyBlock]] = CompressionsBlock
    figures: ClassVar[tuple[str, ...]] = ("figure", "curves")
    shown: ClassVar[tuple[Column, ...]] = (
        text("variant"),
        text("ipc"),
        *SHOWN,
    )

    @cached_property
    def packings(self) -> list[Packing]:
        """Uncompressed labels, the mean label, and every codec at every ratio."""
        return [*BASELINES, *packings(self.block.codecs, self.block.ratios)]

    @cached_property
    def cells(self) -> list[CompressionCell]:
        check_codecs(self, self.block.codecs)
        return [
            self.cell(name, variant, ipc)
            for name, variant in self.block.variants.items()
            for ipc in sorted(self.block.ipc)
        ]

    def cell(self, name: str, variant: Variant, ipc: int) -> CompressionCell:
        """The cell of a variant. Raises `DataError` for one that sets `compression` or whose labels are not stored."""
        with self.error_context(name):
            require(
                not variant.compression,
                "a variant may not change compression: codecs and ratios of this study say how labels are packed; "
                "remove it",
            )
            params, labels = settings([variant], ipc, self.content)
            if params.softlabels.method == self.params.softlabels.method:
                self.needs_stored_labels()
            require(
                params.softlabels.method == "stored",
                f"softlabels.method is {params.softlabels.method}: there are no labels to compress; choose stored",
            )
            require(labels == "packed", f"labels is {labels}, but this study compresses stored labels; remove labels")
        return CompressionCell(name, ipc, compressed(params, CompressionBlock(codec="none")), labels)

    @property
    def settings(self) -> dict[str, Any]:
        packed = {str(packing): packing.block.model_dump(mode="json") for packing in self.packings}
        return {**super().settings, "packings": packed, "tests": self.block.tests}

    def check(self, context: StudyContext) -> None:
        """Also refuses codecs that do not support the views of a variant, and ratios of which none can be reached."""
        super().check(context)
        unreached = []
        for cell in self.cells:
            for packing in self.packings[len(BASELINES) :]:
                with self.error_context(cell.name, f"ipc {cell.ipc}", str(packing)):
                    labeller = labeller_of(context, cell.packed_as(packing))
                    unreached.append(labeller.budget_error(labeller.shape(cell.ipc, len(context.train.classes))))
        with self.error_context():
            require(not all(unreached), f"no codec reaches any of the ratios: {unreached[0]}")

    def run(self, context: StudyContext, cell: CompressionCell) -> CellResult:
        made = self.make_images(context, cell)
        shape = shape_of(context, cell, made.images)
        with self.error_context(cell.name, f"ipc {cell.ipc}"):
            notes = [labeller_of(context, cell.packed_as(packing)).budget_error(shape) for packing in self.packings]
        reached = {str(packing): packing.block for packing, note in zip(self.packings, notes, strict=True) if not note}
        rows: list[Row] = []
        for packing, note in zip(self.packings, notes, strict=True):
            if note:
                shared = {key: rows[0][key] for key in ("image_bytes", *MADE_BY)}
                trained = [{"seed": seed, "accuracy": "", "label_bytes": 0, **shared} for seed in self.block.seeds]
            else:
                packed = cell.packed_as(packing)
                contender = partial(self.contender, context, packed, made.images, reached)
                trained = self.students(context, packed, made, self.block.tests, contender)
            for row in trained:
                place = {"variant": cell.name, "ipc": cell.ipc, **packing.place}
                each = round(row["label_bytes"] / shape.images, 2)
                rows.append({**place, **row, "bytes_per_image": each, "note": note})
        return CellResult(rows, {str(cell): pictures.grid(made.images)})

    def contender(
        self, context: StudyContext, cell: CompressionCell, images: ImageSet, reached: Mapping[str, CompressionBlock]
    ) -> Contender:
        """Images with the labels of the packing of a cell. All packings that can be reached are made at once, because
        the teachers' labels are not kept. Those of other images are removed from disk before that, because together
        they could fill it."""
        notes = context.notes.within("packs").only(cell.digest("selection", "synthesis", "softlabels"))
        budgets = {cell.packed: reached[cell.packed], **reached}
        made = labeller_of(context, cell).contender(str(cell), images, teachers_of(context, cell), notes, budgets)
        return made.renamed(str(cell), str(cell))

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        rows, shared, split = rounded(rows), conditions(rows), self.block.split
        summary = summarise_compressions(rows)
        tables = {"results": arranged(rows, RESULTS), "summary": summary}
        drawn = {"figure": figures.drops(summary, split, shared)}
        if self.block.tests:
            tables["curves"] = points = curve_points(rows, (*SET, *PACKING))
            drawn["curves"] = figures.curves(
                [{**row, "labels": name_of(row)} for row in points], split, shared, "labels"
            )
        return Report(tables, {name: figures.png(figure) for name, figure in drawn.items()})


def compressed(params: Params, block: CompressionBlock) -> Params:
    """The parameters with another block `compression`."""
    return params.model_copy(update={"compression": block})


def name_of(row: Row) -> str:
    """The codec of a row, with its ratio if it has one."""
    return row["codec"] if row["ratio"] == "" else f"{row['codec']}, {row['ratio']:g}x"


def summarise_compressions(results: Sequence[Row]) -> list[Row]:
    """One row per variant, ipc, codec and ratio of `results`, which have one row per seed, in their order. Uncompressed
    labels and the mean label have the ratio "".

    Accuracy in percent and drop in points are means over seeds, with standard deviations over n - 1. A ratio that was
    not reached has a note instead of numbers.
    """
    summary = summarise(results, (*SET, *PACKING), same=(*SIZES, *FROM, "note"))
    return arranged([{**row, **drop} for row, drop in zip(summary, drops(results, SET), strict=True)], SUMMARY)
