"""Experts: rows are weights after each epoch, a killed run resumes, divergence is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matching_scenes import NETWORK, KilledError, World

from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories import experts
from dcpipe.synthesis.trajectories.rows import read
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import DataError

RECIPE = experts.Recipe(NETWORK, 3, 8, 4, Teaching(0.05, 0.0, 0.0, 10, "dsa:color_crop"), 0)


def real_of(folder: Path) -> RealImages:
    return RealImages(World(folder).context, 3, 0, 1)


def test_rows_begin_untrained_and_move_every_epoch(tmp_path: Path) -> None:
    rows = read(experts.train(RECIPE, 1, real_of(tmp_path), tmp_path), 0, 1, 2, 3, 4)
    assert torch.equal(rows[0], Student(RECIPE.untrained(1)).flat())
    assert all(not torch.equal(one, other) for one, other in pairwise(rows))
    assert not torch.equal(rows[0], Student(RECIPE.untrained(2)).flat())


def test_a_killed_expert_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole = experts.train(RECIPE, 0, real_of(tmp_path / "a"), tmp_path / "a").read_bytes()
    told: list[int] = []

    def kill(epoch: int) -> None:
        told.append(epoch)
        if told == [1, 2, 3]:
            raise KilledError

    real = real_of(tmp_path / "b")
    with pytest.raises(KilledError):
        experts.train(RECIPE, 0, real, tmp_path / "b", kill)
    path = experts.train(RECIPE, 0, real, tmp_path / "b", kill)
    assert path.read_bytes() == whole and told == [1, 2, 3, 4]
    experts.train(RECIPE, 0, real, tmp_path / "b", kill)
    assert told == [1, 2, 3, 4] and [p.name for p in (tmp_path / "b").iterdir()] == [path.name]


def test_other_recipes_have_other_folders(tmp_path: Path) -> None:
    others = [replace(RECIPE, **{name: value}) for name, value in (("epochs", 5), ("seed", 1), ("network", "n"))]
    assert len({recipe.folder(tmp_path) for recipe in (RECIPE, *others)}) == 4


def test_accuracy_is_that_of_each_image(tmp_path: Path) -> None:
    real = real_of(tmp_path)
    network = RECIPE.untrained(0)
    student, row = Student(RECIPE.untrained(1)), Student(network).flat()
    with torch.no_grad():
        found = [int(network(real.take(np.array([k]))).argmax()) for k in range(33)]
    assert experts.accuracy(student, row, real) == np.mean(np.array(found) == real.labels.numpy())


def test_divergence_is_refused(tmp_path: Path) -> None:
    wild = replace(RECIPE, teaching=replace(RECIPE.teaching, lr=1e30))
    with pytest.raises(DataError, match="lower expert_lr"):
        experts.train(wild, 0, real_of(tmp_path), tmp_path)
