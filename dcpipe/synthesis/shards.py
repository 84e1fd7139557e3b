"""The parallel part of a recovery: one batch of images, which is saved on disk when it is finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch

from dcpipe import images, store
from dcpipe.shards import opened, progress
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.checkpoints import Images, RecoveryNotes
from dcpipe.synthesis.recovery import Batch, Engine, Recovery, Report
from dcpipe.types import DataError, ImageSet, ImageTable, IntArray


@dataclass(frozen=True)
class Job:
    """What all batches have in common: the choices of the method (whose observers are given here, with their files),
    the artifact `images` with the split that the set was selected from, the seed, the fingerprint of the run, the
    folders of its notes and of the statistics of the real images, and the device.

    The ids of the set are in the notes, because there may be a million of them.
    """

    choices: Recovery
    observers: tuple[tuple[str, store.Verified], ...]
    images: store.Verified
    split: str
    seed: int
    run: str
    notes: str
    shared: str
    device: str


@dataclass(frozen=True, eq=False)
class Work:
    """An open job, and who is told of its progress."""

    engine: Engine
    report: Report

    def recover(self, number: int) -> None:
        """Recover a batch and save it."""
        self.engine.recover(number, self.report)


@dataclass(frozen=True, eq=False)
class SelectedImages:
    """Images u8 [n, s, s, 3] of the rows i64 [n] of a table, which are read when they are used: a worker that recovers
    a few batches needs no more of them."""

    table: ImageTable
    rows: IntArray
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array."""
        return len(self.rows), self.table.size, self.table.size, 3

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, among: IntArray) -> Images:
        """The images u8 [m, s, s, 3] of some rows i64 [m] of the set."""
        return images.read_rows(self.table, self.rows[among])


@opened
def work_of(job: Job) -> Work:
    """Open a job. Raises `DataError` if its files are gone."""
    table = store.table_of(job.images.open(), job.split)
    rows = table.rows_of(RecoveryNotes(Path(job.notes), job.run).ids())
    start = ImageSet(cast(Any, SelectedImages(table, rows)), table.labels[rows], table.ids[rows], table.classes)
    observers = {name: store.teacher_of(artifact.open()) for name, artifact in job.observers}
    context = SynthesisContext(observers, partial(_gone, job), table.labels, torch.device(job.device))
    told = Progress(Path(job.notes), Path(job.shared), lambda *report: None)
    engine = Engine(start, context, job.seed, told, job.choices, job.run)

    def report(batch: Batch, number: int, note: str) -> None:
        progress.report(f"batch {number + 1} of {len(engine.rows)}", batch.step, job.choices.iterations, note)

    return Work(engine, report)


def _gone(job: Job) -> Iterator[Any]:
    """In place of the real images: whoever sends batches has measured their statistics and made mosaics before."""
    raise DataError(
        f"statistics in {job.shared} or mosaics in {job.notes} were removed while images were recovered; run the stage "
        "again"
    )


def recover_batch(job: Job, number: int) -> None:
    """Recover a batch and save it."""
    work_of(job).recover(number)


def job_of(engine: Engine) -> Job | None:
    """The job of an engine for any process; None if some of what it needs is only in memory."""
    table, chosen = engine.context.table, engine.chosen
    artifact = None if table is None else store.Verified.images(table)
    files = store.Verified.teachers(chosen.values())
    if table is None or table.origin is None or artifact is None or files is None:
        return None
    engine.notes.save_ids(engine.start.ids)
    return Job(
        choices=replace(engine.choices, observers=None),
        observers=tuple(zip(chosen, files, strict=True)),
        images=artifact,
        split=table.origin[2],
        seed=engine.seed,
        run=engine.notes.run,
        notes=str(engine.progress.notes.absolute()),
        shared=str(engine.progress.shared.absolute()),
        device=str(engine.context.device),
    )
