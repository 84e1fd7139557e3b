"""GSAM against a float64 reference on flat vectors, and what its limits are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matching_scenes import NETWORK, KilledError, World
from torch import nn

from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories import experts
from dcpipe.synthesis.trajectories.gsam import Gsam

LR = 0.1
RECIPE = experts.Recipe(NETWORK, 3, 8, 3, Teaching(0.05, 0.0, 0.0, 10, "dsa:color_crop"), 0, gsam=Gsam(0.05, 0.3))


def network_of(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 5, dtype=torch.float64, generator=generator), torch.arange(7) % 3


def stepped(gsam: Gsam | None, lr: float = LR, momentum: float = 0.0, steps: int = 1) -> np.ndarray:
    """The weights after some steps."""
    network, (x, y) = network_of(), batch()
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=momentum)
    for _ in range(steps):
        if gsam is None:
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
        else:
            gsam.step([*network.parameters()], optimizer, lambda: F.cross_entropy(network(x), y))
    return torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()


def gradient(weights: np.ndarray) -> np.ndarray:
    """The gradient of the loss of the batch at flat weights, by central differences."""

    def loss(at: np.ndarray) -> float:
        x, y = batch()
        first, bias, second, last = at[:20].reshape(4, 5), at[20:24], at[24:36].reshape(3, 4), at[36:]
        logits = np.tanh(x.numpy() @ first.T + bias) @ second.T + last
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(7), y.numpy()]))

    h = 1e-6
    return np.array([(loss(weights + h * unit) - loss(weights - h * unit)) / (2 * h) for unit in np.eye(len(weights))])


@pytest.mark.parametrize(("rho", "alpha"), [(0.01, 0.3), (0.5, 0.0), (2.0, 0.7)])
def test_a_step_is_what_the_papers_write(rho: float, alpha: float) -> None:
    w = stepped(None, lr=0.0)
    g = gradient(w)
    worst = rho * w**2 * g / np.sqrt(((w * g) ** 2).sum())
    gp = gradient(w + worst)
    orthogonal = g - (g @ gp) / (gp @ gp) * gp
    assert abs(orthogonal @ gp) < 1e-12
    np.testing.assert_allclose(stepped(Gsam(rho, alpha)), w - LR * (gp - alpha * orthogonal), atol=1e-8)
    assert np.abs(gp - g).max() > 1e-4, "the reference sees the difference from plain SGD"


def test_a_tiny_neighbourhood_is_sgd() -> None:
    np.testing.assert_allclose(stepped(Gsam(1e-9, 0.3), momentum=0.9, steps=3), stepped(None, momentum=0.9, steps=3))


def test_weights_without_a_gradient_stay() -> None:
    network = network_of()
    optimizer = torch.optim.SGD(network.parameters(), LR)
    before = [p.detach().clone() for p in network.parameters()]
    Gsam(0.1, 0.3).step([*network.parameters()], optimizer, lambda: 0.0 * sum(p.sum() for p in network.parameters()))
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def test_a_killed_expert_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    def real(name: str) -> RealImages:
        return RealImages(World(tmp_path / name).context, 3, 0, 1)

    def kill(epoch: int) -> None:
        if epoch == 2:
            raise KilledError

    whole = experts.train(RECIPE, 0, real("a"), tmp_path / "a").read_bytes()
    with pytest.raises(KilledError):
        experts.train(RECIPE, 0, real("b"), tmp_path / "b", kill)
    assert experts.train(RECIPE, 0, real("b"), tmp_path / "b").read_bytes() == whole
    plain = replace(RECIPE, gsam=None)
    assert experts.train(plain, 0, real("c"), tmp_path / "c").read_bytes() != whole


def test_other_settings_are_other_experts(tmp_path: Path) -> None:
    recipes = [RECIPE, *(replace(RECIPE, gsam=other) for other in (None, Gsam(0.05), Gsam(0.01, 0.3)))]
    assert len({recipe.folder(tmp_path) for recipe in recipes}) == 4
    assert RECIPE.described() == {**recipes[1].described(), "rho": 0.05, "alpha": 0.3}
