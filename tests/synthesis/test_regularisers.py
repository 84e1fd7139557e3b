"""Flatness and densification against their definitions, written as loops in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis.regularisers import class_groups, densification, flatness
from dcpipe.types import FloatArray


def softmax(values: FloatArray) -> FloatArray:
    powers = np.exp(values - values.max())
    result: FloatArray = powers / powers.sum()
    return result


def divergence(p: FloatArray, q: FloatArray) -> float:
    """KL(p || q) of two distributions, term by term."""
    return sum(float(a * np.log(a / b)) for a, b in zip(p, q, strict=True) if a > 0)


def logits_of(seed: int, n: int = 4, classes: int = 5) -> torch.Tensor:
    return torch.from_numpy(3 * np.random.default_rng(seed).normal(size=(n, classes)))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_flatness_is_a_divergence_in_either_direction(temperature: float) -> None:
    now, then = logits_of(0), logits_of(1)
    pairs = [
        (softmax(a / temperature), softmax(b / temperature)) for a, b in zip(now.numpy(), then.numpy(), strict=True)
    ]
    paper = sum(divergence(p, q) for p, q in pairs) / 4
    code = sum(divergence(q, p) for p, q in pairs) / (4 * 5)
    assert float(flatness(now, then, temperature)) == pytest.approx(paper, rel=1e-9)
    assert float(flatness(now, then, temperature, "code")) == pytest.approx(code, rel=1e-9)
    assert abs(paper / 5 - code) > 1e-3 * code


@pytest.mark.parametrize("form", ["paper", "code"])
def test_flatness_of_equal_answers_is_zero_and_so_is_its_gradient(form: Any) -> None:
    now = logits_of(0).requires_grad_(True)
    value = flatness(now, now.detach(), 4.0, form)
    [gradient] = torch.autograd.grad(value, now)
    assert abs(value.item()) < 1e-15 and float(gradient.abs().max()) < 1e-15


@pytest.mark.parametrize("form", ["paper", "code"])
def test_flatness_has_the_gradient_of_the_images_alone(form: Any) -> None:
    now, then = logits_of(0).requires_grad_(True), logits_of(1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda inputs: flatness(inputs, then.detach(), 4.0, form), now)
    flatness(now, then, 4.0, form).backward()
    assert then.grad is None and float(now.grad.abs().max()) > 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["paper", "code"]), st.floats(0.1, 50))
def test_flatness_is_never_negative(seed: int, form: Any, temperature: float) -> None:
    value = float(flatness(logits_of(seed), logits_of(seed + 1), temperature, form))
    assert np.isfinite(value) and value > 0


def slow_densification(images: FloatArray, labels: list[int]) -> float:
    """Class by class, the Gram matrix entry by entry, with eigenvalues of a general matrix."""
    side = images.shape[-1]
    block = side // 32 if side > 32 else 1
    total = 0.0
    for label in set(labels):
        vectors = []
        for row, its in enumerate(labels):
            if its == label:
                cut = images[row].reshape(3, side // block, block, side // block, block)
                vectors.append(cut.mean((2, 4)).ravel())
        gram = np.array([[float((a * b).sum()) for a in vectors] for b in vectors])
        values = np.sort(np.linalg.eigvals(gram).real)
        total += divergence(softmax(values / 4), softmax(values))
    return total


@pytest.mark.parametrize(("size", "spread"), [(6, 0.17), (64, 0.05)])
def test_densification_is_a_loop_over_classes(size: int, spread: float) -> None:
    labels = [2, 0, 2, 1, 0, 2, 3, 3, 5]  # 3, 2, 2, and two classes of a single image
    images = np.random.default_rng(0).normal(size=(9, 3, size, size)) * spread
    found = densification(torch.from_numpy(images), class_groups(torch.tensor(labels)))
    slow = slow_densification(images, labels)
    assert slow > 1e-4
    assert float(found) == pytest.approx(slow, rel=1e-8)


def test_groups_are_the_rows_of_each_class_with_several_images() -> None:
    groups = class_groups(torch.tensor([2, 0, 2, 1, 0, 2, 3, 3, 5]))
    assert [rows.tolist() for rows in groups] == [[[1, 4], [6, 7]], [[0, 2, 5]]]
    assert class_groups(torch.tensor([1, 0, 4])) == []


def test_densification_does_not_depend_on_the_order_of_images() -> None:
    labels, order = torch.tensor([2, 0, 2, 1, 0, 2]), torch.tensor([3, 5, 0, 4, 2, 1])
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3, 8, 8))) / 8
    first = densification(images, class_groups(labels))
    second = densification(images[order], class_groups(labels[order]))
    assert float(first) == pytest.approx(float(second), rel=1e-9)


def test_densification_is_zero_for_single_images_per_class() -> None:
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(densification(images, class_groups(torch.tensor([1, 0, 4])))) == 0.0


def test_densification_has_a_finite_gradient_even_of_equal_images() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    one = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for images in (one.repeat(5, 1, 1, 1), torch.zeros(5, 3, 8, 8), 30 * torch.randn(5, 3, 8, 8)):
        images.requires_grad_(True)
        value = densification(images, class_groups(labels))
        [gradient] = torch.autograd.grad(value, images)
        assert value.isfinite() and gradient.isfinite().all()


def test_the_target_of_densification_has_no_gradient() -> None:
    """The target is constant, so the gradient is the sum of (softmax(l) - softmax(l / T)) dl, by differences of l."""
    labels = torch.tensor([0, 0, 0])
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 4, 4)) / 5).requires_grad_(True)
    [gradient] = torch.autograd.grad(densification(images, class_groups(labels)), images)

    def spectrum(pixels: FloatArray) -> FloatArray:
        flat = pixels.reshape(3, -1)
        return np.sort(np.linalg.eigvals(flat @ flat.T).real)

    start, way = images.detach().numpy(), np.random.default_rng(1).normal(size=images.shape)
    values = spectrum(start)
    moved = (spectrum(start + 1e-6 * way) - spectrum(start - 1e-6 * way)) / 2e-6
    grad = float(((softmax(values) - softmax(values / 4)) * moved).sum())
    assert float((gradient.numpy() * way).sum()) == pytest.approx(grad, rel=1e-5)
