"""`syntheses`: compare ways to make the images (EDC, Table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import Field

from dcpipe.reports import figures, pictures
from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text
from dcpipe.studies.base import BYTES, CellResult, EntryName, Report, Sizes, StudyBlock, StudyContext
from dcpipe.studies.summary import Row, arranged, rounded, summarise
from dcpipe.studies.variant_cells import MADE_BY, VariantCell, VariantCellsStudy, conditions
from dcpipe.studies.variants import Variant, settings
from dcpipe.types import ImageSet

RESULTS = ("variant", "ipc", "seed", "accuracy", *BYTES, *MADE_BY)
SUMMARY = ("variant", "ipc", "accuracy", "std", "gain", "seeds", *BYTES, *MADE_BY, "seconds", "label_seconds")


class VariantsBlock(StudyBlock):
    """Variants by the names that their rows and pictures get, each at every ipc. Images are made once, students once
    per seed."""

    variants: Annotated[dict[EntryName, Variant], Field(min_length=1)]
    ipc: Sizes


class SynthesesStudy(VariantCellsStudy):
    """Every variant at every ipc."""

    title: ClassVar[str] = "compare ways to make the images (EDC, Table 1)"
    block_type: ClassVar[type[StudyBlock]] = VariantsBlock
    shown: ClassVar[tuple[Column, ...]] = (
        text("variant"),
        text("ipc"),
        mean_and_std("accuracy"),
        decimals("gain", 1, form="+"),
        size("images", "image_bytes"),
        size("labels", "label_bytes"),
        size("in fp16", "fp16_label_bytes"),
        size("teachers", "teacher_bytes"),
        decimals("seconds", 1),
        decimals("labelling", 1, "label_seconds"),
    )

    @cached_property
    def chains(self) -> dict[str, list[Variant]]:
        """By the name of a row: the variants whose changes are applied, in this order; here only the variant itself."""
        return {name: [variant] for name, variant in self.block.variants.items()}

    @property
    def sizes(self) -> Sequence[int]:
        """The numbers of images per class."""
        sizes: Sequence[int] = self.block.ipc
        return sizes

    @cached_property
    def cells(self) -> list[VariantCell]:
        cells = []
        for name, chain in self.chains.items():
            for ipc in sorted(self.sizes):
                with self.error_context(name):
                    cells.append(VariantCell(name, ipc, *settings(chain, ipc, self.content)))
        return cells

    def run(self, context: StudyContext, cell: VariantCell) -> CellResult:
        made = self.make_images(context, cell)
        place = {"variant": cell.name, "ipc": cell.ipc}
        rows = [{**place, **row} for row in self.students(context, cell, made)]
        return CellResult(rows, {str(cell): pictures.grid(made.images)})

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        summary = arranged(self.summary(rows), SUMMARY)
        drawn = figures.bars(summary, self.block.split, conditions(rows), self.name.capitalize(), by="variant")
        first: dict[str, tuple[str, ImageSet]] = {}  # one entry per distinct set of images
        for cell in self.cells:
            digest = cell.digest("selection", "synthesis")
            if digest not in first:
                first[digest] = (str(cell), self.make_images(context, cell).images.prefix(1))
        gallery = pictures.gallery(dict(first.values()))
        tables = {"results": arranged(rounded(rows), RESULTS), "summary": summary}
        return Report(tables, {"figure": figures.png(drawn), "gallery": gallery})

    def summary(self, rows: Sequence[Row]) -> list[Row]:
        """One row per variant and ipc; `seconds` is the time of selection and synthesis (EDC, Table 12),
        and `label_seconds` that of labelling and packing (Table 13), 0 if nothing is packed."""
        return summarise(rows, ("variant", "ipc"), same=(*BYTES, *MADE_BY, "seconds", "label_seconds"))
