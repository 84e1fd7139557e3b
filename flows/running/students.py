"""Students of several sets and seeds, each a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcpipe import store
from dcpipe.config.params import Params
from dcpipe.evaluation import all_images, shards
from dcpipe.evaluation.contenders import Contender
from dcpipe.evaluation.students import Protocol
from dcpipe.types import ImageTable
from flows.running.runtime import Run

Outcomes = list[dict[str, Any]]  # of the students of one row, in the order of the seeds


def train_students(
    run: Run,
    rows: Sequence[Contender],
    params: Params,
    protocol: Protocol,
    seeds: Sequence[int],
    train: ImageTable,
    test: ImageTable,
    notes: store.Notes,
    whole: Mapping[str, int | None],
) -> dict[str, Outcomes]:
    """The outcomes of the students of each row, by its kind.

    Args:
        run: where tasks are run.
        rows: sets on disk, which students are trained on by the protocol.
        params: the parameters, with the student's network in `evaluation`.
        protocol: how students are trained on sets.
        seeds: one student each.
        train: all training images.
        test: the images that students are tested on.
        notes: where outcomes are kept. What is there is not made again: a student is found by kind, seed, and the
            protocol or recipe it was trained by, so that other rows, seeds and networks add to what is there. All else
            that a row depends on must be the same wherever the notes are used again.
        whole: the rows of all training images: kinds of `all_images.NAMES`, each with its number of epochs, or None for
            that of the recipe.
    """
    jobs: dict[str, shards.Job | all_images.AllImages] = {}
    for row in rows:
        job = shards.job_of(row, protocol, train, test, _folder(notes, asdict(protocol)), run.device)
        assert job is not None, f"{row.name} is not on disk"
        jobs[row.kind] = job
    for kind, epochs in whole.items():
        training = {**params.teacher.training.content(), "student": params.evaluation.student}
        folder = _folder(notes, {**training, "epochs": epochs or training["epochs"]})
        jobs[kind] = all_images.training_of(params, train, test, folder, run.device, kind, epochs)
    students = [shards.Student(job, seed, _note(kind, seed)) for kind, job in jobs.items() for seed in seeds]
    titles = {student: f"{student.job.name}/seed {student.seed}" for student in students}
    trained = iter(run.map(shards.train, students, titles.__getitem__, progress="students"))
    return {kind: [next(trained) for _ in seeds] for kind in jobs}


def _folder(notes: store.Notes, how: Mapping[str, Any]) -> Path:
    """The folder of the students that are trained in one way."""
    return notes.within(f"students-{store.digest_of(how)[:16]}").folder


def _note(kind: str, seed: int) -> str:
    return f"result-{kind.replace(' ', '-')}-{seed}"
