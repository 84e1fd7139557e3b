"""Curvature against quadratics, whose Hessian is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.training import curvature
from dcpipe.training.curvature import Surface


def quadratic(matrix: torch.Tensor, at: list[float]) -> Surface:
    """x'Ax/2, whose gradient is Ax and whose Hessian is A, as a sum of two parts of unequal weight."""
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return Surface([x], lambda: [x @ matrix @ x * share for share in (0.125, 0.375)])


def split(matrix: torch.Tensor, at: list[float]) -> Surface:
    """The same loss as a function of two tensors."""
    a, b = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (at[:1], at[1:]))
    return Surface([a, b], lambda: [torch.cat([a, b]) @ matrix @ torch.cat([a, b]) / 2])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def symmetric(seed: int, n: int = 6) -> torch.Tensor:
    drawn = torch.randn(n, n, dtype=torch.float64, generator=seeded(seed))
    return drawn + drawn.T


def test_loss_gradient_and_products_of_a_quadratic() -> None:
    matrix = symmetric(1, 3)
    at, vector = [0.5, -1.0, 2.0], torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    x = torch.tensor(at, dtype=torch.float64)
    for surface in (quadratic(matrix, at), split(matrix, at)):
        assert surface.loss() == pytest.approx(float(x @ matrix @ x / 2), rel=1e-12)
        assert torch.allclose(torch.cat(surface.gradient()), matrix @ x)
        parts = list(vector.split([len(one) for one in surface.point]))
        assert torch.allclose(torch.cat(surface.hessian_times(parts)), matrix @ vector)
        assert torch.cat([one.detach() for one in surface.point]).tolist() == at


def test_a_part_that_is_linear_and_tensors_that_are_not_used_have_no_curvature() -> None:
    used, unused = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    surface = Surface([used, unused], lambda: [used.sum(), used.square().sum()])
    ones = [torch.ones(2, dtype=torch.float64)] * 2
    assert [one.tolist() for one in surface.hessian_times(ones)] == [[2.0, 2.0], [0.0, 0.0]]


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_one_probe_is_exact_for_a_diagonal_hessian(diagonal: list[float], seed: int) -> None:
    surface = quadratic(torch.diag(torch.tensor(diagonal, dtype=torch.float64)), [1.0] * len(diagonal))
    found = curvature.frobenius_norm(surface, 1, seeded(seed))
    assert found == pytest.approx(math.sqrt(sum(x * x for x in diagonal)), rel=1e-12, abs=1e-150)


def test_the_norm_of_a_hessian_that_is_not_diagonal() -> None:
    """The square is a mean of 400 probes, whose standard error is below 3 % here."""
    matrix = symmetric(2)
    found = curvature.frobenius_norm(quadratic(matrix, [0.3] * 6), 400, seeded())
    assert found == pytest.approx(float(matrix.norm()), rel=0.05)
    assert found != pytest.approx(float(matrix.norm()), rel=1e-6), "it is an estimate"


@pytest.mark.parametrize("spectrum", [[5.0, 1.0, -2.0], [-5.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
def test_the_largest_eigenvalue_has_its_sign(spectrum: list[float]) -> None:
    turned, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    matrix = torch.from_numpy(turned @ np.diag(spectrum) @ turned.T)
    for surface in (quadratic(matrix, [1.0, 2.0, 3.0]), split(matrix, [1.0, 2.0, 3.0])):
        assert curvature.largest_eigenvalue(surface, 40, seeded()) == pytest.approx(spectrum[0], abs=1e-9)


def test_the_step_of_sam_by_hand() -> None:
    """At (3, 4) of (x^2 + y^2)/2, the gradient has length 5, so a step of radius 1 leads to (3.6, 4.8)."""
    surface = quadratic(torch.eye(2, dtype=torch.float64), [3.0, 4.0])
    assert curvature.highest_within(surface, 1.0, 1) == pytest.approx([12.5, 18.0])
    steep = quadratic(torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64)), [1.0, 0.0])
    assert curvature.highest_within(steep, 2.0, 1) == pytest.approx([0.5, 4.5])


@given(st.integers(0, 2**31), st.floats(0.01, 2.0))
@settings(max_examples=20, deadline=None)
def test_no_step_leads_down_a_convex_loss(seed: int, radius: float) -> None:
    root = symmetric(seed, 3)
    surface = quadratic(root @ root + torch.eye(3, dtype=torch.float64), [1.0, -0.5, 0.25])
    losses = curvature.highest_within(surface, radius, 8)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(losses))
    x = surface.point[0].detach()
    sphere = torch.randn(500, 3, dtype=torch.float64, generator=seeded(seed))
    there = x + radius * sphere / sphere.norm(dim=1, keepdim=True)
    matrix = root @ root + torch.eye(3, dtype=torch.float64)
    highest = float(((there @ matrix) * there).sum(1).max() / 2)
    assert losses[-1] > losses[0] + 0.8 * (highest - losses[0]), "near the highest of 500 points on the sphere"


def test_cosine_and_lengths() -> None:
    one, other = [torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([4.0]), torch.tensor([-3.0])]
    assert curvature.norm(one) == 5
    assert curvature.cosine(one, one) == pytest.approx(1)
    assert curvature.cosine(one, other) == 0
    assert curvature.cosine(one, [torch.zeros(1), torch.zeros(1)]) == 0
    assert [float(x) for x in curvature.scaled(one, 10)] == pytest.approx([6, 8])


def test_directions_have_the_norms_of_filters() -> None:
    weight, bias = torch.randn(4, 3, 2, 2, generator=seeded(5)), torch.ones(4)
    weight[1] = 0
    [direction, still] = curvature.filter_normalised([weight, bias], seeded(6))
    assert torch.allclose(direction.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
    assert bool((direction[1] == 0).all()) and bool((still == 0).all())
    again, _ = curvature.filter_normalised([weight, bias], seeded(6))
    assert torch.equal(direction, again)


def test_losses_along_a_direction() -> None:
    surface = quadratic(torch.eye(2, dtype=torch.float64), [1.0, 0.0])
    found = curvature.along(surface, [torch.tensor([1.0, 0.0], dtype=torch.float64)], [-1, 0, 2])
    assert found == pytest.approx([0.0, 0.5, 4.5])
    assert surface.point[0].tolist() == [1.0, 0.0]


def test_a_failure_leaves_the_point_as_it_was() -> None:
    surface = quadratic(torch.eye(2, dtype=torch.float64), [0.1, 0.2])
    with pytest.raises(KeyboardInterrupt), surface.moved([torch.ones(2, dtype=torch.float64)], 3.0):
        assert surface.point[0].tolist() == pytest.approx([3.1, 3.2])
        raise KeyboardInterrupt
    assert surface.point[0].tolist() == [0.1, 0.2]
