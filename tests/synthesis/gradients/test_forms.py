"""What a step moves: pixels as plain descent does, components against the gradients of autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dcpipe.synthesis import components
from dcpipe.synthesis.components import Components
from dcpipe.synthesis.gradients.forms import Combined, Pixels

CPU, MOVING = torch.device("cpu"), torch.ones(())
C, N, SIDE = 2, 5, 4


def parts_of(rank: int, seed: int = 0) -> Components:
    """The first components of random images."""
    values = np.random.default_rng(seed).uniform(0, 1, (C, N, SIDE * SIDE * 3))
    return components.decompose(values)[0].first(rank)


def gradient_of(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(C, N, 3, SIDE, SIDE))).float()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_the_pixels_are_what_the_components_decode_to(rank: int) -> None:
    parts = parts_of(rank)
    form = Combined(parts, SIDE, SIDE, CPU)
    expected = parts.decoded().reshape(C, N, SIDE, SIDE, 3).transpose(0, 1, 4, 2, 3)
    assert np.allclose(form.pixels, expected, atol=1e-6)
    back = form.components()
    for name in ("mean", "bases", "coefficients"):
        assert np.allclose(getattr(back, name), getattr(parts, name), atol=1e-6)
    form.clip()
    assert np.allclose(form.pixels, expected, atol=1e-6), "components have no range"


@pytest.mark.parametrize("scale", [1.0, torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)])
def test_a_step_is_along_the_gradient_of_each_part(scale: torch.Tensor | float) -> None:
    """By autograd of <G, X(M, A, B)>: divided by n, by the largest squared singular value, and not at all."""
    parts, grad, lr = parts_of(3), gradient_of(1), 0.01
    form = Combined(parts, SIDE, SIDE, CPU)
    leaves = {name: part.clone().requires_grad_() for name, part in form.parts.items()}
    flat = leaves["mean"] + leaves["coefficients"] @ leaves["bases"]
    shown = flat.reshape(C, N, SIDE, SIDE, 3).permute(0, 1, 4, 2, 3)
    even = scale.mean() if isinstance(scale, torch.Tensor) else scale

    def slopes(by: torch.Tensor | float) -> dict[str, torch.Tensor]:
        found = torch.autograd.grad((grad * by * shown).sum(), list(leaves.values()), retain_graph=True)
        return dict(zip(leaves, found, strict=True))

    largest = torch.linalg.svdvals(torch.from_numpy(parts.coefficients @ parts.bases))[:, :1, None].float() ** 2
    expected = {
        "mean": slopes(scale)["mean"] / N,
        "bases": slopes(scale)["bases"] / largest,
        "coefficients": slopes(even)["coefficients"],
    }
    before = {name: part.clone() for name, part in form.parts.items()}
    form.step(grad, scale, MOVING, lr, 0.5)
    form.step(grad * 0, scale, MOVING, lr, 0.5)
    for name, slope in expected.items():
        assert torch.allclose(before[name] - form.parts[name], 1.5 * lr * slope, atol=1e-6), f"{name}, with momentum"


def test_no_part_moves_the_images_further_than_a_step_in_pixels() -> None:
    parts, grad, lr = parts_of(3), gradient_of(2), 1e-3
    for name in ("mean", "bases", "coefficients"):
        form = Combined(parts, SIDE, SIDE, CPU)
        before, kept = form.pixels, dict(form.parts)
        form.step(grad, 1.0, MOVING, lr, 0.0)
        form.parts = {**kept, name: form.parts[name]}
        moved = (form.pixels - before).norm() / (lr * grad.norm())
        assert 0 < moved <= 1 + 1e-3, name


def test_images_without_variety_keep_finite_steps() -> None:
    values = np.full((C, N, SIDE * SIDE * 3), 0.5)
    form = Combined(components.decompose(values)[0].first(2), SIDE, SIDE, CPU)
    form.step(gradient_of(3), 1.0, MOVING, 0.1, 0.5)
    assert bool(form.pixels.isfinite().all()) and not torch.allclose(form.pixels, torch.tensor(0.5))


@pytest.mark.parametrize("kind", ["pixels", "combined"])
def test_a_restored_form_continues_as_if_nothing_had_happened(kind: str) -> None:
    def new() -> Pixels | Combined:
        return Pixels(gradient_of(5), "loop") if kind == "pixels" else Combined(parts_of(2), SIDE, SIDE, CPU)

    whole = new()
    for step in range(4):
        whole.step(gradient_of(step), 1.0, MOVING, 0.1, 0.9)
        if step == 1:
            state = {name: tensor.clone() for name, tensor in whole.state().items()}
    other = new()
    other.restore(state)
    for step in (2, 3):
        other.step(gradient_of(step), 1.0, MOVING, 0.1, 0.9)
    assert torch.equal(other.pixels, whole.pixels)


def test_pixels_are_clipped_if_they_are_bounded_and_stay_where_they_may_not_move() -> None:
    start = gradient_of(7)
    loose, bounded = Pixels(start.clone(), None), Pixels(start.clone(), "loop")
    assert torch.equal(loose.pixels, start) and torch.equal(bounded.pixels, start.clamp(0, 1))
    moving = torch.zeros(C, N, 1, 1, 1)
    moving[:, 1:] = 1
    loose.step(gradient_of(8), 0.5, moving, 0.1, 0.5)
    assert torch.equal(loose.pixels[:, 0], start[:, 0])
    assert torch.allclose(loose.pixels[:, 1:], (start - 0.05 * gradient_of(8))[:, 1:])
    loose.clip()
    assert float(loose.pixels.max()) > 1
