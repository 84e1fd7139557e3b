"""`labels`: compare codecs at several budgets on the same labels, by fidelity and by student accuracy (SCORE, Fig. 3).

Each row is an entry at one ratio to fp16, with the bytes of its file, the distance of its labels from those of the
teacher and, for the entries in `students`, the accuracy of students. The baselines are uncompressed labels, the teacher
online, hard labels, and one mean label per image (codec `mean_label`). The size of the mean label does not depend on
the number of views, but every ratio to fp16 grows with it. So bytes per image are given with each ratio, and labels of
a codec depend on the view only as far as they are better than the mean label. A ratio that a codec does not reach has a
row that says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dcpipe.compression.fidelity import fidelity
from dcpipe.config.params import NOT_OF_STUDIES, CompressionBlock
from dcpipe.config.values import Distinct, Positive
from dcpipe.evaluation.contenders import Contender, Labeller, budget_of, hard_contender, uncompressed_bytes
from dcpipe.evaluation.students import protocol_of
from dcpipe.reports import figures, tabular
from dcpipe.reports.columns import Column, decimals, human, mean_and_std, text, unless_noted
from dcpipe.studies.base import CellResult, EntryName, Ratios, Report, Study, StudyBlock, StudyContext
from dcpipe.studies.codecs import MEAN, UNCOMPRESSED, CodecEntry, check_codecs, packings
from dcpipe.studies.summary import Row, spread
from dcpipe.types import FloatArray, ImageSet, LabelShape, require

SPECTRUM_IMAGES = 2048
SHARES = (0.9, 0.99)
ONLINE, HARD = "teacher online", "hard labels"
BASELINES = (UNCOMPRESSED, ONLINE, HARD, MEAN)


class LabelsBlock(StudyBlock):
    """Codecs by the names that their rows get, each at every ratio to fp16. `temperatures` are those of the
    divergences. `students` names the entries that students are trained on, at every ratio that they reach."""

    codecs: Annotated[dict[EntryName, CodecEntry], Field(min_length=1)]
    ratios: Ratios
    temperatures: Annotated[list[Positive], Field(min_length=1), Distinct] = Field(default=[1.0, 4.0, 20.0])
    students: Annotated[list[EntryName], Distinct] = Field(default=[])

    def check(self, name: str) -> None:
        unknown = [student for student in self.students if student not in self.codecs]
        require(not unknown, f"{name}.students names {unknown[:1]}, which is not in {name}.codecs; add it there first")


@dataclass(frozen=True)
class LabelsCell:
    """One codec at one budget. Baselines have no ratio, and only the mean label is packed by a codec."""

    codec: str
    budget: CompressionBlock | None = None

    def __str__(self) -> str:
        return f"{self.codec}-{self.budget.ratio:g}x" if self.budget and not self.is_baseline else self.codec

    @property
    def is_baseline(self) -> bool:
        """Whether this is one of `BASELINES`, on which students are always trained."""
        return self.codec in BASELINES

    @property
    def place(self) -> Row:
        """The columns that identify the cell of a row."""
        return {"codec": self.codec, "ratio": self.budget.ratio if self.budget and not self.is_baseline else ""}


class LabelsStudy(Study):
    """Every codec at every ratio."""

    title: ClassVar[str] = (
        "compare codecs on the same labels at the same bytes, by fidelity and student accuracy (SCORE, Fig. 3)"
    )
    block_type: ClassVar[type[StudyBlock]] = LabelsBlock
    needs: ClassVar[tuple[str, ...]] = ("images", "synthesis", "softlabels")
    reads: ClassVar[tuple[str, ...] | None] = ("softlabels", "evaluation")
    figures: ClassVar[tuple[str, ...]] = ("figure", "spectra")

    @property
    def teachers(self) -> list[str]:
        return self.params.softlabels.teachers

    @property
    def settings(self) -> dict[str, Any]:
        evaluation = self.params.evaluation.model_dump(mode="json", exclude=set(NOT_OF_STUDIES))
        return {"study": self.block.model_dump(mode="json"), "evaluation": evaluation}

    @cached_property
    def cells(self) -> list[LabelsCell]:
        check_codecs(self, self.block.codecs)
        self.needs_stored_labels()
        return [
            *map(LabelsCell, (UNCOMPRESSED, ONLINE, HARD)),
            LabelsCell(MEAN, CompressionBlock(codec="mean_label", ratio=1)),
            *(LabelsCell(packing.codec, packing.block) for packing in packings(self.block.codecs, self.block.ratios)),
        ]

    def check(self, context: StudyContext) -> None:
        super().check(context)
        for cell in self.cells:
            with self.error_context(cell.codec):
                self.labeller(context, cell).budget_error(shape_of(context))

    def run(self, context: StudyContext, cell: LabelsCell) -> CellResult:
        measured, accuracies = self.measure(context, cell), []
        if not measured["note"] and (cell.is_baseline or cell.codec in self.block.students):
            protocol, contender = protocol_of(self.params.evaluation), partial(self.contender, context, cell)
            students = context.students(f"score-{cell}", str(cell), self.block.seeds, protocol, contender)
            accuracies = [round(student["accuracy"], 3) for student in students]
        return CellResult([{**cell.place, **measured, "accuracies": accuracies}])

    def measure(self, context: StudyContext, cell: LabelsCell) -> Row:
        """The bytes of the labels of a cell and, for a codec, the seconds that packing took and the fidelity of the
        pack, or a note why there is no pack. The pack is saved in the notes, where `contender` reads it."""
        if cell.codec == UNCOMPRESSED:
            return {"bytes": uncompressed_bytes(context.soft_labels), "note": ""}
        if cell.budget is None:
            return {"bytes": sum(context.teacher_bytes.values()) if cell.codec == ONLINE else 0, "note": ""}
        if note := self.labeller(context, cell).budget_error(shape_of(context)):
            return {"bytes": 0, "note": note}
        if (saved := context.notes.load_arrays(f"facts-{cell}")) is None:
            [facts] = context.map_tasks(partial(self.pack, context), [cell], str, progress="packs")
            saved = {key: np.array(value) for key, value in facts.items()}
            context.notes.save_arrays(f"facts-{cell}", **saved)
        return {"note": "", **{key: value.item() for key, value in saved.items()}}

    def pack(self, context: StudyContext, cell: LabelsCell) -> Row:
        """Pack the labels with the codec and budget of a cell, and compare the pack with the uncompressed labels."""
        assert cell.budget is not None
        labels, started = context.soft_labels, time.perf_counter()
        pack = self.labeller(context, cell).pack(labels, budget_of(cell.budget), context.notes, f"pack-{cell}")
        seconds = time.perf_counter() - started
        near = fidelity(pack, labels, self.block.temperatures, context.device).over()
        return {"bytes": pack.n_bytes, "seconds": seconds, **near}

    def labeller(self, context: StudyContext, cell: LabelsCell) -> Labeller:
        """A labeller with the codec and budget of a cell."""
        return context.labeller(self.params.softlabels, cell.budget or CompressionBlock(codec="none"))

    def contender(self, context: StudyContext, cell: LabelsCell) -> Contender:
        """The images of the workspace with the labels of a cell."""
        images, labels, notes = context.condensed, context.soft_labels, context.notes
        file = context.artifacts["synthesis"] / "images.parquet"
        hard = hard_contender("own", str(cell), images, labels.policy, file.stat().st_size, context.device, file)
        if cell.codec == HARD:
            return hard
        if cell.codec == ONLINE:
            n_bytes, ensemble = sum(context.teacher_bytes.values()), self.params.softlabels.ensemble
            return hard.with_online_teachers(context.teachers, n_bytes, context.device, ensemble)
        if cell.codec == UNCOMPRESSED:
            return hard.with_stored_labels(labels.logits, uncompressed_bytes(labels))
        return hard.with_pack(notes.read_pack(f"pack-{cell}", labels.ids), context.device)

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        block, labels, images = self.block, context.soft_labels, context.condensed
        summary = [summary_row(row, shape_of(context), block.temperatures) for row in rows]
        values = tabular.relative_values(labels, np.arange(min(SPECTRUM_IMAGES, len(images))))
        tables = {"results": results(rows, block.seeds), "summary": summary, **spectra(images, values)}
        conditions, middle = self.conditions(context), sorted(block.temperatures)[len(block.temperatures) // 2]
        drawn = {
            "figure": figures.codecs(summary, middle, block.split, conditions),
            "spectra": figures.spectra(values, images.labels[: len(values)], images.classes, conditions),
        }
        return Report(tables, {name: figures.png(figure) for name, figure in drawn.items()})

    def conditions(self, context: StudyContext) -> str:
        """The settings that all rows share, in one line."""
        protocol, shape = self.params.evaluation, shape_of(context)
        return (
            f"{shape.images} images, {shape.views} views, {shape.classes} classes, fp16 {shape.reference_bytes:,} "
            f"bytes, labelled by {', '.join(context.teachers)}, mix {context.soft_labels.policy.mix}; "
            f"{protocol.student}, {protocol.epochs} epochs, T = {protocol.temperature:g}"
        )

    @classmethod
    def heading(cls, rows: Sequence[Row]) -> str:
        sizes = f"in fp16 {human(int(rows[0]['fp16_bytes']))}, in fp32 {human(int(rows[0]['fp32_bytes']))}"
        return f"labels, {sizes}; top-1 in percent, mean ± std over seeds"

    @classmethod
    def columns(cls, rows: Sequence[Row]) -> list[Column]:
        divergences = [key for key in rows[0] if key.startswith("kl_t")]
        return [
            text("codec"),
            text("ratio"),
            unless_noted(decimals("bytes", 0, form=","), "not reached"),
            *([unless_noted(decimals("per image", 1, "bytes_per_image", ","))] if "bytes_per_image" in rows[0] else []),
            unless_noted(decimals("bits per class", 0, "bits_per_class", ",")),
            *(decimals(f"KL T={key.removeprefix('kl_t')}", 3, key) for key in divergences),
            decimals("agreement", 3),
            mean_and_std("accuracy"),
        ]


def shape_of(context: StudyContext) -> LabelShape:
    """The shape of the labels of the workspace."""
    return LabelShape(*context.soft_labels.logits.shape)


def results(rows: Sequence[Row], seeds: Sequence[int]) -> list[Row]:
    """One row per student."""
    return [
        {"codec": row["codec"], "ratio": row["ratio"], "seed": seed, "accuracy": accuracy}
        for row in rows
        for seed, accuracy in zip(seeds if row["accuracies"] else [], row["accuracies"], strict=True)
    ]


def summary_row(row: Row, shape: LabelShape, temperatures: Sequence[float]) -> Row:
    """The bytes of a cell and those of fp16 and fp32 (bits per class count all images and views), the fidelity of its
    labels, and mean and standard deviation of its accuracies; "" for what was not measured."""
    n_bytes, reference = row["bytes"], shape.reference_bytes
    measures = ("held", "relative_error", *(f"kl_t{t:g}" for t in temperatures), "agreement")
    return {
        "codec": row["codec"],
        "ratio": row["ratio"],
        "bytes": n_bytes,
        "fp16_bytes": reference,
        "fp32_bytes": 2 * reference,
        "times_fp16": round(reference / n_bytes, 2) if n_bytes else "",
        "bytes_per_image": round(n_bytes / shape.images, 2),
        "bits_per_class": round(8 * n_bytes / shape.classes, 1),
        **{key: round(row[key], 5) if key in row else "" for key in measures},
        **spread(row["accuracies"]),
        "seeds": len(row["accuracies"]),
        "seconds": round(row["seconds"], 3) if "seconds" in row else "",
        "note": row["note"],
    }


def spectra(images: ImageSet, values: FloatArray) -> dict[str, list[Row]]:
    """Tables of the first n images, from the singular values f64 [n, r] of their labels: `spectra` over all images and
    by class, and `ranks`, the number of components that contain a share of the energy of each image's labels."""
    labels, classes = images.labels[: len(values)], images.classes
    rows: list[Row] = [{"class": "all", **row} for row in tabular.spectrum(values)]
    for label in np.unique(labels):
        rows += [{"class": classes[label], **row} for row in tabular.spectrum(values[labels == label])]
    shares = {f"rank_{share:g}": tabular.ranks(values, share) for share in SHARES}
    ranks: list[Row] = [
        {"image": int(images.ids[row]), "class": classes[labels[row]]}
        | {name: int(components[row]) for name, components in shares.items()}
        for row in range(len(values))
    ]
    return {"spectra": rows, "ranks": ranks}
