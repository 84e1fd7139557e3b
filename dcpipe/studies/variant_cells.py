"""Run cells with changed parameters from picks to students, for the studies of variants: `syntheses`, `ladder`,
`sizes`, `students` and `compressions`.

Images, labels and students that cells share are made only once, and so are the statistics of the real images. An
interrupted study resumes inside a recovery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from dcpipe.types import ImageSet, LabelShape, Teacher

MADE_BY = ("synthesis", "labels", "fp16_label_bytes", "student", "protocol")


@dataclass(frozen=True, eq=False)
class VariantCell:
    """One variant at one ipc.

    Images start from the picks of `rounds` (start, stop), or from all picks if it is None. `subset` describes the
    images that students get, if they do not get all of them. `start_seed` is that of `SynthesisContext`. `keeps` are
    outer loops of matching, after which the images are kept beside the last ones.
    """

    name: str
    ipc: int
    params: Params
    labels: Labels
    rounds: tuple[int, int] | None = None
    subset: str = ""
    start_seed: int | None = None
    keeps: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-ipc{self.ipc}"

    def content(self, *blocks: str) -> dict[str, Any]:
        """These blocks, without the keys that studies do not use."""
        unused = {"evaluation": set(NOT_OF_STUDIES)}
        return self.params.model_dump(mode="json", include=set(blocks), exclude=unused)

    def digest(self, *blocks: str) -> str:
        """A digest that is equal for cells that agree in these blocks, in `rounds`, `subset` and `start_seed`."""
        own = {"rounds": self.rounds, "taken": self.subset, "start": self.start_seed}
        return store.digest_of({**self.content(*blocks), **own})[:12]


@dataclass(frozen=True, eq=False)
class Made:
    """Images, and the seconds that it took to make them."""

    images: ImageSet
    seconds: float


class VariantCellsStudy(Study):
    """Abstract base of studies whose cells differ in the blocks that a variant may change."""

    reads: ClassVar[tuple[str, ...] | None] = None
    figures: ClassVar[tuple[str, ...]] = ("figure", "gallery")
    pictures: ClassVar[str] = "images"

    @property
    def teachers(self) -> list[str]:
        """All teachers, because any of them may observe or label."""
        return list(self.params.teacher.networks)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "study": {"seeds": self.block.seeds, "split": self.block.split},
            "cells": {
                str(cell): {**cell.content(*BLOCKS), "labels": cell.labels}
                | ({} if cell.start_seed is None else {"start_seed": cell.start_seed})
                for cell in self.cells
            },
        }

    def check(self, context: StudyContext) -> None:
        """Also refuses an ipc that is larger than a class, and budgets that cannot be met."""
        super().check(context)
        with self.error_context():
            blocks = [cell.params.selection for cell in self.cells]
            logits = any(selection.uses_logits(block.method) for block in blocks)
            context.candidates.check(max(block.ipc for block in blocks), logits=logits)
        for cell in self.cells:
            if cell.labels == "packed":
                with self.error_context(cell.name, f"ipc {cell.ipc}"):
                    labeller = labeller_of(context, cell)
                    labeller.plan(labeller.shape(cell.ipc, len(context.train.classes)))

    def make_images(self, context: StudyContext, cell: VariantCell, loop: int | None = None) -> Made:
        """The images of a cell, or with `loop` those after this outer loop, which the cell keeps. They are made once
        for all cells that agree in selection and synthesis."""
        name = f"images-{cell.digest('selection', 'synthesis')}"
        names: dict[int | None, str] = {kept: f"{name}-loop{kept}" for kept in cell.keeps} | {None: name}
        classes = context.train.classes
        if any(_read(context.notes, each, classes) is None for each in names.values()):

            def make(cell: VariantCell) -> Made:
                started = time.perf_counter()

                def snapshot(loop: int, images: Callable[[], ImageSet]) -> None:
                    if loop in cell.keeps:
                        _keep(context.notes, names[loop], Made(images(), time.perf_counter() - started))

                with self.error_context(cell.name, f"ipc {cell.ipc}"):
                    images = synthesised(context, cell, context.notes.within(name), snapshot=snapshot)
                    return Made(images, time.perf_counter() - started)

            [made] = context.map_tasks(make, [cell], str, retries=2, progress=f"synthesise {cell}")
            _keep(context.notes, name, made)
            context.notes.remove(name)  # checkpoints of many variants would fill the disk
        found = _read(context.notes, names[loop], classes)
        assert found is not None
        return found

    def students(
        self,
        context: StudyContext,
        cell: VariantCell,
        made: Made,
        curve: int = 0,
        contender: Callable[[], Contender] | None = None,
    ) -> list[Row]:
        """One row per seed: the accuracy of a student, a description of the data that it was trained on, and its
        bytes. `curve`: tests for a learning curve. `contender` makes the images with their labels; it defaults to
        `labelled`."""
        protocol = replace(protocol_of(cell.params.evaluation, cell.params.softlabels), curve=curve)
        note = f"students-{cell.labels}-{cell.digest(*BLOCKS)}" + (f"-curve{curve}" if curve else "")
        contender = contender or partial(labelled, context, cell, made.images)
        rows = context.students(note, str(cell), self.block.seeds, protocol, contender)
        shape = shape_of(context, cell, made.images)
        shared = {
            "synthesis": cell.params.synthesis.method,
            "labels": cell.labels,
            "fp16_label_bytes": shape.reference_bytes if cell.labels == "packed" else 0,
            "student": protocol.student,
            "protocol": protocol.name,
            "seconds": round(made.seconds, 1),
            "label_seconds": round(label_seconds(context, cell), 3),
        }
        return [{**row, **shared} for row in rows]


def _keep(notes: store.Notes, name: str, made: Made) -> None:
    arrays = {key: np.asarray(getattr(made.images, key)) for key in ("images", "labels", "ids", "grid", "by")}
    notes.save_arrays(name, **arrays, seconds=np.array(made.seconds))


def _read(notes: store.Notes, name: str, classes: tuple[str, ...]) -> Made | None:
    """What `_keep` kept under this name, if it did."""
    if (saved := notes.load_arrays(name)) is None:
        return None
    arrays = saved["images"], saved["labels"], saved["ids"]
    return Made(ImageSet(*arrays, classes, saved["grid"].item(), saved["by"].item()), saved["seconds"].item())


def conditions(rows: Sequence[Row]) -> str:
    """The settings that all rows share, in one line."""
    values = {key: {row[key] for row in rows} for key in ("student", "protocol")}
    return "; ".join(
        shared.pop() if len(shared) == 1 else f"{key}s differ (see summary.csv)" for key, shared in values.items()
    )


def labeller_of(context: StudyContext, cell: VariantCell) -> Labeller:
    """A labeller with the parameters of a cell."""
    return context.labeller(cell.params.softlabels, cell.params.compression)


def shape_of(context: StudyContext, cell: VariantCell, made: ImageSet) -> LabelShape:
    """The shape of the soft labels of a cell's images; images that are grids are counted decoded."""
    n_classes = len(made.classes)
    return labeller_of(context, cell).shape(len(made.decoded_ids) // n_classes, n_classes)


def synthesis_context(context: StudyContext) -> synthesis.SynthesisContext:
    """The context that synthesis methods get."""
    train = context.train
    real = partial(images.read_parts, train)
    return synthesis.SynthesisContext(context.teachers, real, train.labels, context.device, context.map_tasks, train)


def synthesised(
    context: StudyContext,
    cell: VariantCell,
    notes: store.Notes,
    **callbacks: Any,
) -> ImageSet:
    """Pick images and refine those of the cell's rounds, as the stages do; an interrupted run resumes from its notes.
    `callbacks` are further ones of `synthesis.Progress`."""
    choice, block = cell.params.selection, cell.params.synthesis
    select = selection.SELECTORS[choice.method]
    picks = select(context.candidates, choice.ipc, choice.seed, selection.Progress(), **choice.options)
    first, stop = (0, choice.ipc) if cell.rounds is None else cell.rounds
    among = slice(first * len(context.train.classes), stop * len(context.train.classes))
    picks = selection.Picks(picks.rows[among], picks.gains[among])
    start = images.read_selection(context.train, context.candidates.selection(picks, choice.method))
    shared = context.notes.within("statistics")
    progress = synthesis.Progress(notes.folder, shared.folder, context.live, **callbacks)
    given = replace(synthesis_context(context), start_seed=cell.start_seed)
    return synthesis.METHODS[block.method](start, given, block.seed, progress, **block.options)


def teachers_of(context: StudyContext, cell: VariantCell) -> dict[str, Teacher]:
    """The teachers that label the images of a cell, by key."""
    return {key: context.teachers[key] for key in cell.params.softlabels.teachers}


def notes_of_labels(context: StudyContext, cell: VariantCell) -> store.Notes:
    """The notes of the labels of a cell, and of the `seconds` that labelling and packing took."""
    return context.notes.within(f"labels-{cell.digest('selection', 'synthesis', 'softlabels', 'compression')}")


def label_seconds(context: StudyContext, cell: VariantCell) -> float:
    """The seconds that labelling and packing took; 0 for a cell without packed labels."""
    found = notes_of_labels(context, cell).load_json("seconds") if cell.labels == "packed" else None
    return 0.0 if found is None else float(found)


def labelled(context: StudyContext, cell: VariantCell, made: ImageSet) -> Contender:
    """The images of a cell with the labels or teachers that its students are trained with."""
    labeller, notes, teachers = labeller_of(context, cell), notes_of_labels(context, cell), teachers_of(context, cell)
    if cell.labels == "packed":
        started = time.perf_counter()
        contender = labeller.contender(str(cell), made, teachers, notes).renamed(str(cell), str(cell))
        if notes.load_json("seconds") is None:  # later, its labels are only read
            notes.save_json("seconds", time.perf_counter() - started)
        return contender
    hard = labeller.hard(str(cell), made, notes).renamed(str(cell), str(cell))
    if cell.labels == "hard":
        return hard
    n_bytes = sum(context.teacher_bytes[key] for key in teachers)
    return hard.with_online_teachers(teachers, n_bytes, context.device, cell.params.softlabels.ensemble)
