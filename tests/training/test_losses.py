"""What a run minimises: the divergence and its gradient, and every loss by name, against float64 loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dcpipe import training
from dcpipe.training import losses
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


# --- students' losses by name ---


def slow_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)]))


def slow_loss(name: str, student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, t: float, gamma: float) -> float:
    """The losses of the papers in float64."""
    if name == "mse_gt":
        m, c = student.shape
        squares = sum((student[i, j] - teacher[i, j]) ** 2 for i in range(m) for j in range(c))
        return squares / (m * c) + gamma * slow_cross_entropy(student, labels)
    target = np.exp(teacher / t) / np.exp(teacher / t).sum(axis=1, keepdims=True)
    scaled = slow_divergence(student, target, t)
    return {
        "kl": scaled,
        "kl_plain": scaled / t**2,
        "kl_ce": scaled + gamma * slow_cross_entropy(student, labels),
    }[name]


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 30), gamma=st.floats(0, 1))
def test_losses_are_their_definitions(
    name: str, dtype: torch.dtype, seed: int, temperature: float, gamma: float
) -> None:
    """In fp32 whatever the student's logits come in: bfloat16 ones are only rounded, the maths on them is not."""
    rng = np.random.default_rng(seed)
    said, teacher = (torch.from_numpy(rng.normal(0, 3, (4, 6))) for _ in range(2))
    student, labels = said.to(dtype), torch.from_numpy(rng.integers(0, 6, 4))
    chosen = losses.LOSSES[name]
    gamma = gamma if chosen.hard else 0.0
    soft = teacher.float() if chosen.space == "logits" else losses.soften(teacher, temperature)
    value = losses.choose(name, gamma).make(temperature, gamma)(student, (soft, labels) if chosen.hard else soft)
    expected = slow_loss(name, student.double().numpy(), teacher.numpy(), labels.numpy(), temperature, gamma)
    assert value.dtype == torch.float32 and value.shape == ()
    scale = 1.0 if name == "kl_plain" else temperature**2
    assert float(value) == pytest.approx(expected, rel=1e-3, abs=1e-6 * scale)


@pytest.mark.parametrize("name", ["kl", "kl_plain", "kl_ce"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 30), k=st.integers(1, 6))
def test_labels_of_some_classes_have_a_loss_of_these_and_of_their_probability(
    name: str, seed: int, temperature: float, k: int
) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 3, (2, 4, 6))
    classes = np.sort(rng.permutation(6)[:k])
    labels = classes[rng.integers(0, k, 4)]
    target = np.zeros((4, 6))
    target[:, classes] = losses.soften(torch.from_numpy(teacher[:, classes]), temperature)
    gamma = 0.3 if name == "kl_ce" else 0.0
    loss = losses.choose(name, gamma).make(temperature, gamma, torch.from_numpy(classes))
    soft, logits = torch.from_numpy(target).float(), torch.from_numpy(student).requires_grad_(True)
    value = loss(logits, (soft, torch.from_numpy(labels)) if name == "kl_ce" else soft)
    known = "kl_plain" if name == "kl_plain" else "kl"
    shares = np.exp(student) / np.exp(student).sum(1, keepdims=True)
    places = np.searchsorted(classes, labels)
    expected = slow_loss(known, student[:, classes], teacher[:, classes], places, temperature, 0.0)
    expected += -np.log(shares[:, classes].sum(1)).mean() + gamma * slow_cross_entropy(student, labels)
    assert value.item() == pytest.approx(expected, rel=1e-3, abs=1e-6 * temperature**2 + 1e-5)
    value.backward()
    others = np.setdiff1d(np.arange(6), classes)
    found = logits.grad[:, others].numpy()  # type: ignore[index]
    assert np.allclose(found, (1 + gamma) * shares[:, others] / 4, atol=1e-6), "no temperature"


def test_the_classes_weigh_gamma_and_their_gradient_is_that_of_cross_entropy() -> None:
    teacher, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    logits = teacher.clone().requires_grad_(True)  # where the squared error's gradient is zero
    losses.choose("mse_gt", 0.025).make(20.0, 0.025)(logits, (teacher, labels)).backward()
    expected = 0.025 * (torch.softmax(teacher, dim=1) - nn.functional.one_hot(labels, 4)) / 5
    torch.testing.assert_close(logits.grad, expected)


def test_an_unknown_loss_and_an_idle_gamma_are_refused() -> None:
    with pytest.raises(DataError) as error:
        losses.choose("mse", 0.0)
    assert str(error.value) == "evaluation: unknown loss 'mse'; choose one of kl, kl_plain, kl_ce, mse_gt"
    for name in ("kl", "kl_plain"):
        with pytest.raises(DataError) as error:
            losses.choose(name, 0.025)
        assert str(error.value) == (
            f"evaluation: gamma is 0.025, but loss {name!r} has no cross-entropy term; set gamma to 0, or choose kl_ce "
            "or mse_gt"
        )
