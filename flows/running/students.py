"""Students of several sets and seeds, each a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcpipe.evaluation import all_images, shards
from flows.running.runtime import Run


def train_students(
    run: Run, trainings: Sequence[shards.Job | all_images.AllImages], seeds: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """The outcomes of the students of each training, in the order of the seeds."""
    jobs = [(row, seed) for row in range(len(trainings)) for seed in seeds]
    students = [shards.Student(trainings[row], seed, f"result-{row}-{seed}") for row, seed in jobs]
    titles = {student: f"{student.job.name}/seed {student.seed}" for student in students}
    trained = iter(run.map(shards.train, students, titles.__getitem__, progress="students"))
    return [[next(trained) for _ in seeds] for _ in trainings]
