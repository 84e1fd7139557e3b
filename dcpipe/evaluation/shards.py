"""The parallel part of an evaluation: one student, trained on a contender, or on all images, from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcpipe import store
from dcpipe.evaluation import contenders
from dcpipe.evaluation.all_images import AllImages
from dcpipe.evaluation.contenders import Contender, first_images, hard_contender
from dcpipe.evaluation.stored import Stored
from dcpipe.evaluation.students import Protocol
from dcpipe.shards import opened
from dcpipe.types import ImageTable


@dataclass(frozen=True)
class Job:
    """What the students of one contender have in common: where it is on disk, its name, the protocol, the artifact
    `images`, the split that students are tested on, the folder of checkpoints, and the device."""

    stored: Stored
    name: str
    protocol: Protocol
    images: store.Verified
    split: str
    folder: str
    device: str

    def score(self, seed: int) -> dict[str, Any]:
        """Train one student and test it, as `contenders.score` does."""
        return work_of(self).score(seed)


@dataclass(frozen=True, eq=False)
class Work:
    """An open job."""

    contender: Contender
    protocol: Protocol
    train: ImageTable
    test: ImageTable
    folder: Path
    device: torch.device

    def score(self, seed: int) -> dict[str, Any]:
        """The outcome of one student, as `contenders.score` returns it."""
        return contenders.score(
            self.contender,
            self.protocol,
            self.train,
            self.test,
            seed,
            device=self.device,
            folder=self.folder,
        )


@opened
def work_of(job: Job) -> Work:
    """Open a job."""
    images, device = job.images.open(), torch.device(job.device)
    train, test = store.table_of(images, "train"), store.table_of(images, job.split)
    return Work(contender_of(job.stored, job.name, device), job.protocol, train, test, Path(job.folder), device)


def contender_of(stored: Stored, name: str, device: torch.device) -> Contender:
    """A contender from its files. Its bytes are those of the process that sent it, so they are left at 0."""
    images = stored.images.read()
    contender = hard_contender(name, name, images, stored.policy, 0, device)
    if stored.pack:
        contender = contender.with_pack(store.read_pack(Path(stored.pack), images.decoded_ids), device)
    if stored.logits:
        contender = contender.with_stored_labels(store.open_blocks(Path(stored.logits)), 0)
    if stored.teachers:
        teachers = {artifact.path: store.teacher_of(artifact.open()) for artifact in stored.teachers}
        contender = contender.with_online_teachers(teachers, 0, device, stored.ensemble)
    if stored.whitening:
        contender = contender.whitened(Path(stored.whitening))
    return contender if stored.first is None else first_images(contender, stored.first)


def job_of(
    contender: Contender, protocol: Protocol, train: ImageTable, test: ImageTable, folder: Path, device: torch.device
) -> Job | None:
    """The job of a contender for any process; None if some of it is only in memory."""
    images = store.Verified.images(train)
    if contender.stored is None or images is None or test.origin is None:
        return None
    split = test.origin[2]
    return Job(contender.stored, contender.name, protocol, images, split, str(folder.absolute()), str(device))


@dataclass(frozen=True)
class Student:
    """A student of a contender, or of all images: its seed, and the name of the note that its outcome is saved in."""

    job: Job | AllImages
    seed: int
    note: str


def train(student: Student) -> dict[str, Any]:
    """The outcome of a student, which is read if it has been trained before."""
    job = student.job
    return trained(student.note, Path(job.folder), lambda: job.score(student.seed))


def trained(note: str, folder: Path, score: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The outcome in a note, which is made by `score` if it is not there."""
    notes = store.Notes(folder)
    if (outcome := notes.load_json(note)) is None:
        outcome = score()
        notes.save_json(note, outcome)
    return dict(outcome)
