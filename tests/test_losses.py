"""What a run is judged by: the divergence and its gradient against float64 loops, and accuracy counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dcpipe import training
from dcpipe.types import DataError

CPU = torch.device("cpu")


def slow_divergence(logits: np.ndarray, target: np.ndarray, temperature: float) -> float:
    """T^2 / m * sum of p (log p - log q), term by term, 0 log 0 = 0."""
    total = 0.0
    for row, wanted in zip(logits / temperature, target, strict=True):
        log_q = row - (row.max() + math.log(sum(math.exp(value - row.max()) for value in row)))
        total += sum(p * (math.log(p) - q) for p, q in zip(wanted, log_q, strict=True) if p > 0)
    return total / len(logits) * temperature**2


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 30))
def test_divergence_is_its_formula(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits, teacher = rng.normal(0, 3, (2, 4, 6))
    target = training.soften(torch.from_numpy(teacher), temperature)
    assert target.dtype == torch.float32
    wanted = np.exp(teacher / temperature) / np.exp(teacher / temperature).sum(1, keepdims=True)
    np.testing.assert_allclose(target.numpy(), wanted, rtol=1e-5)
    value = training.divergence(temperature)(torch.from_numpy(logits), target)
    expected = slow_divergence(logits, target.double().numpy(), temperature)
    assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-4 * temperature**2 * 0.01)


def test_divergence_takes_hard_targets_and_vanishes_at_its_own_target() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    hard = torch.tensor([[0.0, 1.0, 0.0]])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1]))
    torch.testing.assert_close(training.divergence(1.0)(logits, hard), expected)
    assert float(training.divergence(4.0)(logits, training.soften(logits, 4.0))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_divergence_gradient_is_the_finite_difference(temperature: float) -> None:
    rng = np.random.default_rng(0)
    values, teacher = rng.normal(0, 2, (2, 3, 5))
    target = training.soften(torch.from_numpy(teacher), temperature)
    logits = torch.from_numpy(values).requires_grad_(True)
    training.divergence(temperature)(logits, target).backward()
    step = 1e-5
    for index in np.ndindex(3, 5):
        up, down = values.copy(), values.copy()
        up[index] += step
        down[index] -= step
        exact = target.double().numpy()
        slope = (slow_divergence(up, exact, temperature) - slow_divergence(down, exact, temperature)) / (2 * step)
        assert float(logits.grad[index]) == pytest.approx(slope, rel=1e-3, abs=1e-5 * temperature)


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_accuracy_counts_images_not_batches(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    data = [(torch.randn(n, 3, generator=generator), torch.randint(0, 3, (n,), generator=generator)) for n in sizes]
    right = sum(
        int(row.argmax()) == int(label) for rows, labels in data for row, label in zip(rows, labels, strict=True)
    )
    assert training.accuracy(nn.Identity(), data, CPU) == 100.0 * right / sum(sizes)


def test_accuracy_measures_in_evaluation_mode_and_refuses_nothing() -> None:
    network = nn.Sequential(nn.Dropout(0.99)).train()
    inputs = torch.eye(3)
    assert training.accuracy(network, [(inputs, torch.arange(3))], CPU) == 100.0
    with pytest.raises(DataError, match=r"^evaluation: the split holds no images$"):
        training.accuracy(network, [], CPU)
