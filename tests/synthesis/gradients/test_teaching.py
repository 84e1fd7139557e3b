"""Training steps of the network: torch's SGD, CutMix against a loop over pixels, and reproducible random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matching_scenes import NETWORK, SIZE
from torch import nn

from dcpipe import networks
from dcpipe.synthesis.gradients.teaching import Teaching, cutmix, uniform_draws
from dcpipe.types import DataError
from dcpipe.views import siamese

M = 6


def network_of() -> nn.Module:
    torch.manual_seed(0)
    return networks.build(NETWORK, 3, SIZE)


def batch_of(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(M, 3, SIZE, SIZE, generator=generator), torch.randint(0, 3, (M,), generator=generator)


def taught(steps: int = 3, seed: int = 0, first: int = 0, **choices: Any) -> torch.Tensor:
    """All weights after some steps."""
    teaching, network = Teaching(**choices), network_of()
    optimizer = teaching.optimizer(network)
    for step in range(steps):
        teaching.step(network, optimizer, *batch_of(step), seed, first + step)
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 5e-4), (0.0, 0.0), (0.5, 0.1)])
def test_steps_are_those_of_sgd(momentum: float, decay: float) -> None:
    network = network_of()
    velocity = [torch.zeros_like(p) for p in network.parameters()]
    for step in range(3):
        images, labels = batch_of(step)
        grads = torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))
        with torch.no_grad():
            for p, v, g in zip(network.parameters(), velocity, grads, strict=True):
                v.copy_(momentum * v + g + decay * p)
                p -= 0.05 * v
    expected = torch.cat([p.detach().flatten() for p in network.parameters()])
    torch.testing.assert_close(taught(lr=0.05, momentum=momentum, decay=decay), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("box", [[0.3, 0.5, 0.5], [0.9, 0.05, 0.95], [0.0, 0.4, 0.4], [0.999, 0.5, 0.5]])
def test_cut_is_a_loop_over_pixels(box: list[float]) -> None:
    images, _ = batch_of()
    order = np.array([3, 0, 5, 2, 1, 4])
    mixed, partner, kept = cutmix(images, np.array(box), order)
    side, x, y = box[0] ** 0.5, box[1], box[2]
    expected, pasted = images.clone(), 0
    for row in range(SIZE):
        for column in range(SIZE):
            # Pixels whose centre lies in the box around (x, y), as rounding its edges has it.
            inside = abs((column + 0.5) / SIZE - x) <= side / 2 and abs((row + 0.5) / SIZE - y) <= side / 2
            pasted += inside
            for i in range(M):
                if inside:
                    expected[i, :, row, column] = images[order[i], :, row, column]
    assert torch.equal(mixed, expected)
    assert partner.tolist() == order.tolist()
    assert kept == pytest.approx(1 - pasted / SIZE**2)


def test_even_boxes_are_those_of_the_official_code() -> None:
    images, order = torch.zeros(M, 3, 32, 32), np.arange(M)[::-1].copy()
    images[3:] = 1.0
    mixed, _, kept = cutmix(images, np.array([0.3, 0.5, 0.9]), order, "even")
    # A side of int(32 sqrt(0.3)) = 17, so 8 pixels around pixel (16, 28), where 8 + 4 rows are left of 16.
    assert kept == pytest.approx(1 - 16 * 12 / 32**2)
    assert mixed[0, 0].nonzero().amin(0).tolist() == [20, 8] and mixed[0, 0].nonzero().amax(0).tolist() == [31, 23]


def test_labels_are_mixed_by_the_share_of_remaining_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, float]] = []

    def listening(*given: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
        seen.append(cutmix(*given))
        return seen[-1]

    monkeypatch.setattr("dcpipe.synthesis.gradients.teaching.cutmix", listening)
    ours = taught(1, cutmix=1.0, lr=0.05, momentum=0.0, decay=0.0)
    [(mixed, partner, kept)] = seen
    network, labels = network_of(), batch_of()[1]
    soft = kept * F.one_hot(labels, 3) + (1 - kept) * F.one_hot(labels[partner], 3)
    loss = -(soft * network(mixed).log_softmax(1)).sum(1).mean()
    grads = torch.autograd.grad(loss, list(network.parameters()))
    expected = torch.cat([(p - 0.05 * g).flatten() for p, g in zip(network.parameters(), grads, strict=True)])
    assert 0 < kept < 1
    torch.testing.assert_close(ours, expected.detach(), rtol=0, atol=1e-6)


def test_batches_are_mixed_with_the_given_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[float] = []

    def listening(*given: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
        mixed = cutmix(*given)
        kept.append(mixed[2])
        return mixed

    monkeypatch.setattr("dcpipe.synthesis.gradients.teaching.cutmix", listening)
    taught(100, cutmix=0.5, lr=1e-9)
    assert 35 < len(kept) < 65
    # lambda is uniform; boxes over the border keep more: E = 0.5 + what is cut off.
    assert 0.5 < float(np.mean(kept)) < 0.75 and len(set(kept)) > 10


def test_every_image_has_its_own_augmentation() -> None:
    teaching, network = Teaching(strategy="color_crop", lr=0.05, momentum=0.0, decay=0.0), network_of()
    images, labels = batch_of()
    rows = np.arange(M)
    drawn = siamese.draw("color_crop", uniform_draws(7, 4, rows))
    one_by_one = torch.cat([siamese.apply(images[i : i + 1], drawn[rows[i : i + 1]]) for i in range(M)])
    grads = torch.autograd.grad(F.cross_entropy(network(one_by_one), labels), list(network.parameters()))
    expected = [p.detach() - 0.05 * g for p, g in zip(network.parameters(), grads, strict=True)]
    teaching.step(network, teaching.optimizer(network), images, labels, 7, 4)
    for p, goal in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), goal, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "choices",
    [{"strategy": "color_crop"}, {"cutmix": 1.0}, {"lr": 0.1}, {"momentum": 0.1}, {"decay": 0.1}],
    ids=lambda choices: next(iter(choices)),
)
def test_every_choice_changes_something(choices: dict[str, Any]) -> None:
    assert (taught(**choices) - taught()).abs().max() > 1e-5


@pytest.mark.parametrize("choices", [{"strategy": "color_crop"}, {"cutmix": 1.0}], ids=["strategy", "cutmix"])
def test_draws_are_a_function_of_seed_and_step(choices: dict[str, Any]) -> None:
    assert torch.equal(taught(**choices), taught(**choices))
    assert not torch.equal(taught(**choices), taught(seed=1, **choices))
    assert not torch.equal(taught(**choices), taught(first=9, **choices))
    assert torch.isfinite(taught(first=-9, **choices)).all()  # steps before the first have numbers below zero


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(DataError, match="invalid strategy 'blur'; join different names"):
        taught(strategy="blur")
