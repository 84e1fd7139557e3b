"""Gradients of trajectory matching in float64: against central differences, and the three forms against each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dcpipe import networks
from dcpipe.synthesis.trajectories.unrolling import Gradients, Student, gradients
from dcpipe.types import DataError

STEPS, MANY = 4, 5


class Scene:
    """Nine images of three classes with soft labels; four steps on batches of six, so that images come again."""

    def __init__(self, seed: int = 0, network: str = "") -> None:
        torch.manual_seed(seed)
        shape = (3, 8, 8) if network else (7,)
        made = networks.build(network, 3, 8) if network else nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
        self.student = Student(made.double())
        self.start = self.student.flat()
        self.target = self.start + 0.3 * torch.randn_like(self.start)
        self.images = torch.randn(9, *shape, dtype=torch.float64)
        self.logits = torch.randn(9, 3, dtype=torch.float64)
        self.orders = [torch.randperm(9)[:6] for _ in range(STEPS)]

    def leaves(self) -> list[torch.Tensor]:
        return [x.clone().requires_grad_(True) for x in (self.images, self.logits)]

    def batches(self, leaves: list[torch.Tensor]) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
        return lambda i: (leaves[0][self.orders[i]] * (1 + 0.1 * i), leaves[1][self.orders[i]].softmax(1))

    def found(self, through: str, rate: float, steps: int = STEPS) -> Gradients:
        leaves = self.leaves()
        every = self.student, self.start, self.target, self.batches(leaves)
        return gradients(*every, steps, rate, leaves, through)  # type: ignore[arg-type]

    def loss(self, images: torch.Tensor, logits: torch.Tensor, rate: float) -> float:
        """The loss alone, by plain steps."""
        weights, batches = self.start.clone(), self.batches([images, logits])
        for i in range(STEPS):
            own = weights.clone().requires_grad_(True)
            weights = weights - rate * torch.autograd.grad(self.student.loss(own, *batches(i)), own)[0]
        return float((weights - self.target).square().sum() / (self.start - self.target).square().sum())

    def detached(self, rate: float) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Gradients of the unrolled loss whose steps are taken at detached weights."""
        leaves, size = self.leaves(), torch.tensor(rate, dtype=torch.float64, requires_grad=True)
        weights, batches = self.start.clone(), self.batches(leaves)
        for i in range(STEPS):
            own = weights.detach().requires_grad_(True)
            [step] = torch.autograd.grad(self.student.loss(own, *batches(i)), own, create_graph=True)
            weights = weights - size * step
        loss = (weights - self.target).square().sum() / (self.start - self.target).square().sum()
        *found, of_rate = torch.autograd.grad(loss, (*leaves, size))
        return found, of_rate


def close(one: Gradients, leaves: list[torch.Tensor], rate: torch.Tensor, atol: float = 1e-12) -> bool:
    pairs = zip([*one.leaves, one.rate], [*leaves, rate], strict=True)
    return all(torch.allclose(a, b, rtol=1e-10, atol=atol) for a, b in pairs)


@pytest.mark.parametrize("through", ["exact", "unrolled"])
@pytest.mark.parametrize("network", ["", "convnet-d1-w4"])
def test_gradients_are_those_of_central_differences(through: str, network: str) -> None:
    scene, rate, h = Scene(1, network), 0.3, 1e-5
    found = scene.found(through, rate)
    assert float(found.loss) == pytest.approx(scene.loss(scene.images, scene.logits, rate), rel=1e-12)
    up, down = (scene.loss(scene.images, scene.logits, rate + d) for d in (h, -h))
    assert float(found.rate) == pytest.approx((up - down) / (2 * h), rel=1e-6)
    for leaf, gradient in enumerate(found.leaves):
        for _ in range(MANY):
            way = torch.randn_like(gradient)
            ends = []
            for d in (h, -h):
                moved = [scene.images, scene.logits]
                moved[leaf] = moved[leaf] + d * way
                ends.append(scene.loss(*moved, rate))
            assert float((gradient * way).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-8)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rate=st.floats(1e-3, 1.0))
def test_the_exact_form_is_the_unrolled_one_and_tesla_that_of_detached_weights(seed: int, rate: float) -> None:
    scene = Scene(seed)
    unrolled = scene.found("unrolled", rate)
    assert close(scene.found("exact", rate), unrolled.leaves, unrolled.rate)
    assert close(scene.found("tesla", rate), *scene.detached(rate))


def test_tesla_is_exact_for_one_step_only() -> None:
    scene = Scene(2)
    one = scene.found("exact", 0.3, 1)
    assert close(scene.found("tesla", 0.3, 1), one.leaves, one.rate)
    four = scene.found("exact", 0.3)
    assert not close(scene.found("tesla", 0.3), four.leaves, four.rate, 1e-3)


def test_loss_is_one_without_steps_and_zero_at_the_target() -> None:
    scene = Scene(3)
    assert float(scene.found("exact", 0.0).loss) == pytest.approx(1, abs=1e-12)
    own = scene.start.clone().requires_grad_(True)
    images, labels = scene.batches(scene.leaves())(0)
    scene.target = scene.start - 0.3 * torch.autograd.grad(scene.student.loss(own, images, labels), own)[0]
    found = scene.found("exact", 0.3, 1)
    assert float(found.loss) == pytest.approx(0, abs=1e-20)
    assert all(float(g.abs().max()) < 1e-10 for g in [*found.leaves, found.rate])


def test_an_expert_that_stands_still_is_refused() -> None:
    scene = Scene()
    scene.target = scene.start
    with pytest.raises(DataError, match="raise expert_lr"):
        scene.found("exact", 0.1)
