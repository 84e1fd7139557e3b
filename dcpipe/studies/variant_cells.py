"""From picks to students under changed parameters: the cells of the studies `syntheses`, `ladder` and `sizes`.

Images that cells share are made once, labels and students that they share too; the statistics of the real images are
measured once for all. A killed study goes on inside a recovery.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from dcpipe import images, selection, store, synthesis
from dcpipe.config.params import NOT_OF_STUDIES, Params
from dcpipe.evaluation.contenders import Contender, Labeller
from dcpipe.evaluation.students import protocol_of
from dcpipe.studies.base import Study, StudyContext
from dcpipe.studies.summary import Row
from dcpipe.studies.variants import BLOCKS, Labels
from dcpipe.types import ImageSet

BYTES = ("image_bytes", "label_bytes", "teacher_bytes")  # columns of what a student learnt from
MADE_BY = ("synthesis", "labels", "fp16_label_bytes", "student", "protocol")


@dataclass(frozen=True, eq=False)
class VariantCell:
    """One variant at one ipc.

    `rounds`: of the picks, start and stop, that images start from; None: all. `taken`: what students get of the images,
    where that is not all.
    """

    name: str
    ipc: int
    params: Params
    labels: Labels
    rounds: tuple[int, int] | None = None
    taken: str = ""

    def __str__(self) -> str:
        return f"{self.name}-ipc{self.ipc}"

    def content(self, *blocks: str) -> dict[str, Any]:
        """These blocks, without what a study does not use of them."""
        unused = {"evaluation": set(NOT_OF_STUDIES)}
        return self.params.model_dump(mode="json", include=set(blocks), exclude=unused)

    def digest(self, *blocks: str) -> str:
        """Equal for cells that agree in these blocks, start from the same rounds and take the same."""
        return store.digest_of({**self.content(*blocks), "rounds": self.rounds, "taken": self.taken})[:12]


@dataclass(frozen=True, eq=False)
class Made:
    """Images, and the seconds that they took."""

    images: ImageSet
    seconds: float


class VariantCellsStudy(Study):
    """Abstract: cells that differ in any of the blocks that a variant may change."""

    reads: ClassVar[tuple[str, ...] | None] = None
    figures: ClassVar[tuple[str, ...]] = ("figure", "gallery")
    pictures: ClassVar[str] = "images"

    @property
    def teachers(self) -> list[str]:
        """All of them: any may observe or label."""
        return list(self.params.teacher.networks)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "study": {"seeds": self.block.seeds, "split": self.block.split},
            "cells": {str(cell): {**cell.content(*BLOCKS), "labels": cell.labels} for cell in self.cells},
        }

    def check(self, context: StudyContext) -> None:
        """Also refuses an ipc that some class lacks, and budgets that cannot be met."""
        super().check(context)
        with self.error_context():
            context.candidates.check(max(cell.params.selection.ipc for cell in self.cells))
        for cell in self.cells:
            if cell.labels == "packed":
                with self.error_context(cell.name, f"ipc {cell.ipc}"):
                    labeller = labeller_of(context, cell)
                    labeller.plan(labeller.shape(cell.ipc, len(context.train.classes)))

    def make_images(self, context: StudyContext, cell: VariantCell) -> Made:
        """A cell's images, made once for all cells that agree in selection and synthesis."""
        name = f"images-{cell.digest('selection', 'synthesis')}"
        if (kept := context.notes.load_arrays(name)) is None:

            def make(cell: VariantCell) -> Made:
                started = time.perf_counter()
                with self.error_context(cell.name, f"ipc {cell.ipc}"):
                    return Made(synthesised(context, cell, context.notes.within(name)), time.perf_counter() - started)

            [made] = context.map_tasks(make, [cell], str, retries=2, progress=f"synthesise {cell}")
            kept = {key: np.asarray(getattr(made.images, key)) for key in ("images", "labels", "ids", "grid", "by")}
            kept["seconds"] = np.array(made.seconds)
            context.notes.save_arrays(name, **kept)
            context.notes.remove(name)  # checkpoints of many variants would fill the disk
        arrays = kept["images"], kept["labels"], kept["ids"]
        found = ImageSet(*arrays, context.train.classes, kept["grid"].item(), kept["by"].item())
        return Made(found, kept["seconds"].item())

    def students(self, context: StudyContext, cell: VariantCell, made: Made) -> list[Row]:
        """A row a seed: the accuracy of a student, what it learnt from, and what that weighs."""
        protocol = protocol_of(cell.params.evaluation, cell.params.softlabels)
        note, contender = (
            f"students-{cell.labels}-{cell.digest(*BLOCKS)}",
            partial(labelled, context, cell, made.images),
        )
        rows = context.students(note, str(cell), self.block.seeds, protocol, contender)
        ipc = len(made.images.decoded_ids) // len(made.images.classes)
        shape = labeller_of(context, cell).shape(ipc, len(made.images.classes))
        shared = {
            "synthesis": cell.params.synthesis.method,
            "labels": cell.labels,
            "fp16_label_bytes": shape.reference_bytes if cell.labels == "packed" else 0,
            "student": protocol.student,
            "protocol": protocol.name,
            "seconds": round(made.seconds, 1),
        }
        return [{**row, **shared} for row in rows]


def conditions(rows: Sequence[Row]) -> str:
    """What all rows share, in one line."""
    values = {key: {row[key] for row in rows} for key in ("student", "protocol")}
    return "; ".join(
        found.pop() if len(found) == 1 else f"{key}s differ (see summary.csv)" for key, found in values.items()
    )


def labeller_of(context: StudyContext, cell: VariantCell) -> Labeller:
    """Labels images as a cell's parameters say."""
    return context.labeller(cell.params.softlabels, cell.params.compression)


def synthesis_context(context: StudyContext) -> synthesis.SynthesisContext:
    """What synthesis methods are given."""
    real = partial(images.read_parts, context.train)
    return synthesis.SynthesisContext(context.teachers, real, context.train.labels, context.device)


def synthesised(context: StudyContext, cell: VariantCell, notes: store.Notes) -> ImageSet:
    """Pick and, from the picks of the cell's rounds, refine, as the stages do; a killed run goes on from its notes."""
    choice, block = cell.params.selection, cell.params.synthesis
    select = selection.SELECTORS[choice.method]
    picks = select(context.candidates, choice.ipc, choice.seed, selection.Progress(), **choice.options)
    first, stop = (0, choice.ipc) if cell.rounds is None else cell.rounds
    among = slice(first * len(context.train.classes), stop * len(context.train.classes))
    picks = selection.Picks(picks.rows[among], picks.gains[among])
    start = images.read_selection(context.train, context.candidates.selection(picks, choice.method))
    shared = context.notes.within("statistics")
    progress = synthesis.Progress(notes.folder, shared.folder, context.live)
    return synthesis.METHODS[block.method](start, synthesis_context(context), block.seed, progress, **block.options)


def labelled(context: StudyContext, cell: VariantCell, found: ImageSet) -> Contender:
    """The cell's images with what its students learn from."""
    labeller = labeller_of(context, cell)
    notes = context.notes.within(f"labels-{cell.digest('selection', 'synthesis', 'softlabels', 'compression')}")
    teachers: Mapping[str, Any] = {key: context.teachers[key] for key in cell.params.softlabels.teachers}
    if cell.labels == "packed":
        return labeller.contender(str(cell), found, teachers, notes).named(str(cell), str(cell))
    hard = labeller.hard(str(cell), found, notes).named(str(cell), str(cell))
    if cell.labels == "hard":
        return hard
    return hard.with_teachers(teachers, sum(context.teacher_bytes[key] for key in teachers), context.device)
