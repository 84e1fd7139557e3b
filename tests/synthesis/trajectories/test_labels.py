"""DATM's start, against slow references: logits of experts that are right, and images that experts predict right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matching_scenes import World
from torch import nn

from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.trajectories import labels
from dcpipe.synthesis.trajectories.unrolling import Student


class Planted(nn.Module):
    """Logits are those that the weights [9, 3] have for the image whose first pixel is its number."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(9, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.table[images[:, 0, 0, 0].long()]


def test_logits_are_the_mean_of_experts_that_are_right() -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(4, 9, 3)).astype(np.float32)
    classes = rng.integers(0, 3, 9)
    tables[:, 0, classes[0]] -= 10  # predicted right by no expert
    tables[:, 1, classes[1]] += 10  # by all
    images = torch.arange(9.0)[:, None, None, None].expand(9, 3, 2, 2)
    weights = [torch.from_numpy(table).reshape(-1) for table in tables]
    found = labels.mean_logits(Student(Planted()), weights, images, torch.from_numpy(classes)).numpy()
    for image, label in enumerate(classes):
        right = [table[image] for table in tables if table[image].argmax() == label]
        if right:
            wanted = np.mean(right, axis=0)
        else:
            wanted = tables[:, image].mean(0)
            best = int(wanted.argmax())
            wanted[[best, label]] = wanted[[label, best]]
        assert np.allclose(found[image], wanted, atol=1e-6)
        assert found[image].argmax() == label
    assert sum(any(table[k].argmax() == c for table in tables) for k, c in enumerate(classes)) < 9


class Coloured(nn.Module):
    """Predicts the class whose turn it is, `turn[0]`, of images whose first pixel is above `turn[1]`."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.zeros(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hit = (images[:, 0, 0, 0] > self.turn[1]).float()
        return nn.functional.one_hot(self.turn[0].long(), 3).float() * hit[:, None] + torch.tensor([0.0, 0.0, 0.1])


@pytest.mark.parametrize("right", ["all", "some", "none"])
def test_images_that_experts_predict_right_come_first(tmp_path: Path, right: str) -> None:
    """The second expert takes what the first leaves, and the first images fill up what both leave."""
    real = RealImages(World(tmp_path).context, 3, 0, 1)
    wanted = np.array([1, 0, 1, 0, 0, 1])
    shown = {label: real.take(real.shuffled(label))[:, 0, 0, 0] for label in (0, 1)}
    # Above the bound of "some" is not the image that is tried first.
    bounds = {label: {"all": -9.0, "some": float(values[0]), "none": 9.0}[right] for label, values in shown.items()}
    experts = [torch.tensor([float(label), bound]) for label, bound in bounds.items()]
    rows = labels.predicted(Student(Coloured()), experts, real, wanted)
    assert len(set(rows)) == 6 and np.array_equal(real.labels.numpy()[rows], wanted)
    for label, values in shown.items():
        order, above = real.shuffled(label), (values > bounds[label]).numpy()
        first = [*order[above], *order[~above]][:3]
        assert rows[wanted == label].tolist() == first
        assert (first == order[:3].tolist()) == (right != "some")
