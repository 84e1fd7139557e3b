"""Distances against loops over classes, layers and rows in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis.gradients.distances import DISTANCES, mse
from dcpipe.types import DataError


def gradients(seed: int, *lead: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*lead, *shape, generator=generator, dtype=torch.float64) for shape in [(3, 4), (2, 5)]]


def rows_apart(a: list[list[float]], b: list[list[float]]) -> float:
    total = 0.0
    for x, y in zip(a, b, strict=True):
        norms = math.sqrt(sum(p * p for p in x)) * math.sqrt(sum(q * q for q in y))
        total += 1 - sum(p * q for p, q in zip(x, y, strict=True)) / (norms + 1e-6)
    return total


def entries(a: list[list[float]], b: list[list[float]]) -> list[float]:
    return [p - q for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)]


SLOW: dict[str, Callable[[list[list[float]], list[list[float]]], float]] = {
    "mse": lambda a, b: sum(d * d for d in entries(a, b)),
    "l1": lambda a, b: sum(abs(d) for d in entries(a, b)),
    "cosine": rows_apart,
}


def test_every_distance_has_a_reference() -> None:
    assert DISTANCES.keys() == SLOW.keys()


@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), groups=st.integers(1, 3), classes=st.integers(1, 3))
def test_equal_to_the_loop(name: str, seed: int, groups: int, classes: int) -> None:
    """Real gradients [1, c, ...] against those of each group [g, c, ...]."""
    ours, theirs = gradients(seed, groups, classes), gradients(seed + 1, 1, classes)
    found = DISTANCES[name](ours, theirs)
    assert found.shape == (groups, classes)
    for g in range(groups):
        for c in range(classes):
            pairs = zip(ours, theirs, strict=True)
            slow = sum(SLOW[name](a[g, c].tolist(), b[0, c].tolist()) for a, b in pairs)
            assert abs(float(found[g, c]) - slow) < 1e-9 * max(1.0, abs(slow))


@pytest.mark.parametrize("name", SLOW)
def test_the_distance_to_itself_is_zero_and_descent_reduces_it(name: str) -> None:
    theirs = gradients(0, 2)
    torch.testing.assert_close(DISTANCES[name](theirs, theirs), torch.zeros(2).double(), atol=1e-4, rtol=0)
    ours = [part.requires_grad_() for part in gradients(1, 2)]
    before = DISTANCES[name](ours, theirs).sum()
    steps = torch.autograd.grad(before, ours)
    after = DISTANCES[name]([p - 1e-3 * s for p, s in zip(ours, steps, strict=True)], theirs).sum()
    assert float(after.detach()) < float(before.detach())


def test_zero_rows_have_distance_one_and_a_finite_gradient() -> None:
    zero = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    found = DISTANCES["cosine"]([zero], [torch.ones(1, 2, 3, dtype=torch.float64)])
    assert found.tolist() == [2.0]
    assert bool(torch.autograd.grad(found.sum(), zero)[0].isfinite().all())


def test_cosine_is_blind_to_the_size_of_gradients() -> None:
    ours, theirs = gradients(0, 2), gradients(1, 2)
    scaled = [1000 * part for part in ours]
    torch.testing.assert_close(
        DISTANCES["cosine"](scaled, theirs), DISTANCES["cosine"](ours, theirs), rtol=1e-5, atol=0
    )
    assert not torch.allclose(mse(scaled, theirs), mse(ours, theirs))


@pytest.mark.parametrize("theirs", [gradients(0, 2)[:1], gradients(0, 3), []])
def test_gradients_of_other_layers_are_refused(theirs: list[torch.Tensor]) -> None:
    ours = gradients(0, 2)
    with pytest.raises(DataError) as error:
        mse(ours, theirs)
    assert str(error.value) == (
        f"gradients of layers [[2, 3, 4], [2, 2, 5]] and {[list(g.shape) for g in theirs]} cannot be compared; "
        "both need the same classes and layers, and at least one layer"
    )
