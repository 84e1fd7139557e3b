"""Buffers of MTT's own code: written as its code does, mapped by order and shapes, and refused if anything differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matching_scenes import NETWORK, World

from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories import buffers
from dcpipe.synthesis.trajectories.experts import Recipe, train
from dcpipe.synthesis.trajectories.rows import read
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import DataError

RECIPE = Recipe(NETWORK, 3, 8, 2, Teaching(0.3, 0.0, 0.0, 4, ""), 0)
Trajectory = list[list[torch.Tensor]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RealImages, list[Trajectory]]:
    """Three experts as MTT's buffer.py has them: a list of parameters after each epoch."""
    folder = tmp_path_factory.mktemp("trained")
    real, student = RealImages(World(folder).context, 3, 0, 1), Student(RECIPE.untrained(0))
    found = []
    for number in range(3):
        rows = read(train(RECIPE, number, real, folder), 0, 1, 2)
        found.append([list(student._named(row).values()) for row in rows])
    return real, found


def buffer(folder: Path, number: int, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"replay_buffer_{number}.pt"
    torch.save(content, path)
    return path


def test_experts_come_in_order_with_their_weights(
    tmp_path: Path, trained: tuple[RealImages, list[Trajectory]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, given = trained
    buffer(tmp_path / "b", 10, given[2:])
    buffer(tmp_path / "b", 2, given[:2])
    made = buffers.imported(RECIPE, real, tmp_path / "b", tmp_path / "s", 3)
    for number, trajectory in enumerate(given):
        for epoch, row in enumerate(made.read(number, 0, 1, 2)):
            assert torch.equal(row, torch.cat([tensor.reshape(-1) for tensor in trajectory[epoch]]))
    assert [expert.seed for expert in made.experts] == [None] * 3
    assert all(expert.accuracy > 0.5 for expert in made.experts)
    monkeypatch.setattr(buffers, "read_plain", lambda *path: pytest.fail("read again"))
    assert buffers.imported(RECIPE, real, tmp_path / "b", tmp_path / "s", 2).experts == made.experts[:2]


def refused(
    real: RealImages, folder: Path, content: Any, message: str, recipe: Recipe = RECIPE, count: int = 1
) -> None:
    buffer(folder / "b", 0, content)
    with pytest.raises(DataError, match=message):
        buffers.imported(recipe, real, folder / "b", folder / "s", count)


def test_what_does_not_fit_is_refused(tmp_path: Path, trained: tuple[RealImages, list[Trajectory]]) -> None:
    real, given = trained
    [one, *_] = given
    short = [[checkpoint[:-1] for checkpoint in one]] * 2
    turned = [[*checkpoint[:-2], checkpoint[-2].T, checkpoint[-1]] for checkpoint in one]
    double = [[tensor.double() for tensor in checkpoint] for checkpoint in one]
    nan = [[tensor / 0 for tensor in checkpoint] for checkpoint in one]
    for content, message in (
        ([one[:2], one], "has 2 checkpoints, so 1 epochs, but expert_epochs is 2; set expert_epochs: 1"),
        (short, "has 7 tensors, but 'convnet-d2-w3' for 3 classes at 8 pixels has 10|has 9 tensors"),
        ([turned], r"tensor 8 has shape \[12, 3\], but .*weight of 'convnet-d2-w3'"),
        ([double], "tensor 0 is no tensor of f32"),
        ([[[3.0] * 10] * 3, one], "tensor 0 is no tensor of f32"),
        ([nan], "checkpoint 0 has NaN or infinite weights"),
        ({"a": one}, "is no list of experts"),
        ([one[0], one], "is no list of checkpoints|has 10 checkpoints"),
        ([[7, 7, 7], one], "is no list of tensors"),
    ):
        refused(real, tmp_path, content, message)
    refused(real, tmp_path, given, "has 3 experts, but experts is 4; set experts: 3", count=4)
    refused(real, tmp_path, given, "set network", replace(RECIPE, network="convnet-d2-w4"))


def test_shared_tensors_that_would_fill_the_disk_are_refused(
    tmp_path: Path, trained: tuple[RealImages, list[Trajectory]]
) -> None:
    real, given = trained
    refused(real, tmp_path, [given[0]] * 1000, "too few for 1000 experts of 2 epochs")


def test_experts_of_other_images_are_refused(tmp_path: Path, trained: tuple[RealImages, list[Trajectory]]) -> None:
    real, given = trained
    untrained = [[checkpoint[0], checkpoint[1], checkpoint[2]] for checkpoint in given]
    for trajectory in untrained:
        last = [tensor.clone() for tensor in trajectory[-1]]
        last[-2], last[-1] = torch.roll(last[-2], 1, 0), torch.roll(last[-1], 1, 0)  # another order of classes
        trajectory[-1] = last
    refused(real, tmp_path, untrained, "and chance is 33.3 %: it was trained on other or whitened images")


def test_code_in_a_buffer_is_not_run(tmp_path: Path, trained: tuple[RealImages, list[Trajectory]]) -> None:
    real, _ = trained
    refused(real, tmp_path, [Path("x")], "contains something other than tensors")


def test_only_buffers_are_found(tmp_path: Path) -> None:
    for name in ("replay_buffer_11.pt", "replay_buffer_2.pt", "replay_buffer.pt", "other.pt", "replay_buffer_x.pt"):
        (tmp_path / name).touch()
    assert [path.name for path in buffers.found(tmp_path)] == ["replay_buffer_2.pt", "replay_buffer_11.pt"]
