"""Metrics of MDC's subsets against plain loops, and the masks and weights of the images in a subset."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis.gradients.subsets import METRICS, Measurements, prefix_weights, trainable_mask
from dcpipe.types import DataError, FloatArray, IntArray

CPU = torch.device("cpu")
IMAGE_MAJOR = st.sampled_from([True, False])


def owners_of(n: int, factor: int, by_image: bool) -> IntArray:
    """Cell-major decoding: cell 0 of all n images first. By cells, the first n f^2 decoded ones are S[n]."""
    d = n * factor * factor
    return np.arange(d) % n if by_image else np.arange(d) // factor**2


def members(size: int, n: int, factor: int, by_image: bool) -> list[int]:
    """The decoded images of S[size], as defined in the paper and in the official code."""
    if by_image:
        return [cell * n + image for cell in range(factor**2) for image in range(size)]
    return list(range(size * factor**2))


def slow_distances(real: FloatArray, synthetic: FloatArray, subsets: list[list[int]]) -> FloatArray:
    out = np.zeros((len(real), len(subsets)))
    for label in range(len(real)):
        for column, inside in enumerate(subsets):
            goal = sum(real[label]) / len(real[label])
            found = sum(synthetic[label, j] for j in inside) / len(inside)
            out[label, column] = ((goal - found) ** 2).sum()
    return out


@given(st.integers(1, 4), st.integers(1, 3), IMAGE_MAJOR, st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_feature_distances_equal_those_of_each_subset_alone(n: int, factor: int, by_image: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(3, 5, 2, 3, 3))
    synthetic = rng.normal(size=(3, n * factor**2, 2, 3, 3))
    weights = prefix_weights(owners_of(n, factor, by_image), CPU)
    subsets = [members(size, n, factor, by_image) for size in range(1, n + 1)]
    expected = slow_distances(real, synthetic, subsets)
    found = METRICS["feature"](Measurements(torch.tensor(real), torch.tensor(synthetic), weights))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    single = Measurements(torch.tensor(real).float(), torch.tensor(synthetic).float().requires_grad_(), weights)
    halved = METRICS["feature"](single)
    assert halved.dtype == torch.float64 and not halved.requires_grad
    np.testing.assert_allclose(halved.numpy(), expected, rtol=1e-5)


def test_by_image_and_by_cell_are_different_subsets() -> None:
    """Ten images, f = 2: S[3] by cells holds cells of all of them (facts of the official code)."""
    by_cell = prefix_weights(owners_of(10, 2, False), CPU)[2].nonzero().flatten()
    assert by_cell.tolist() == list(range(12))
    by_image = prefix_weights(owners_of(10, 2, True), CPU)[2].nonzero().flatten()
    assert by_image.tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]
    assert torch.equal(prefix_weights(owners_of(4, 1, True), CPU), prefix_weights(owners_of(4, 1, False), CPU))


def test_weights_of_a_subset_sum_to_one_if_images_decode_to_different_numbers() -> None:
    weights = prefix_weights(np.array([0, 0, 1, 2, 2, 2]), CPU)
    expected = [[1 / 2, 1 / 2, 0, 0, 0, 0], [1 / 3] * 3 + [0, 0, 0], [1 / 6] * 6]
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-15)


def test_a_stored_image_without_training_images_is_an_error() -> None:
    told = "stored image [1] decodes to no training image; owners must name every image from 0 to 2"
    with pytest.raises(DataError, match=told.replace("[", r"\[").replace("]", r"\]")):
        prefix_weights(np.array([0, 2, 2]), CPU)


def test_the_other_metrics_of_table_5() -> None:
    gradients, accuracies = torch.tensor([[3.0, 5.0], [1.0, 4.0], [0.5, 2.0]]), torch.tensor([[0.25, 0.5], [0.5, 1.0]])
    assert METRICS["gradient"](Measurements(gradients=gradients)).tolist() == [[3.0, 1.0, 0.5], [5.0, 4.0, 2.0]]
    assert METRICS["accuracy"](Measurements(accuracies=accuracies)).tolist() == [[0.75, 0.5], [0.5, 0.0]]
    assert {METRICS[name](e).dtype for name, e in cases()} == {torch.float64}
    assert {name for name, _ in cases()} == set(METRICS)


def cases() -> list[tuple[str, Measurements]]:
    some = torch.ones(2, 3, 4)
    return [
        ("feature", Measurements(some, some, prefix_weights(np.arange(3), CPU))),
        ("gradient", Measurements(gradients=torch.ones(3, 2))),
        ("accuracy", Measurements(accuracies=torch.ones(2, 3))),
    ]


@pytest.mark.parametrize(
    ("metric", "needs"), [("feature", "real"), ("gradient", "gradients"), ("accuracy", "accuracies")]
)
def test_a_missing_measurement_is_named_in_the_error(metric: str, needs: str) -> None:
    told = rf"^subsets: metric '{metric}' needs {needs}, which are not given; pass Measurements\({needs}=...\)$"
    with pytest.raises(DataError, match=told):
        METRICS[metric](Measurements())


@given(st.integers(1, 4), st.integers(1, 2), IMAGE_MAJOR, st.lists(st.integers(0, 3), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_the_mask_is_zero_only_in_the_frozen_subset(n: int, factor: int, by_image: bool, frozen: list[int]) -> None:
    frozen = [min(size, n - 1) for size in frozen]
    found = trainable_mask(np.array(frozen), owners_of(n, factor, by_image), CPU)
    assert found.dtype == torch.float32
    for row, size in zip(found.tolist(), frozen, strict=True):
        still = members(size, n, factor, by_image)
        assert row == [0.0 if j in still else 1.0 for j in range(n * factor**2)]


@pytest.mark.gpu
def test_the_gpu_computes_the_same_distances() -> None:
    cuda = torch.device("cuda")
    real, synthetic, owners = torch.randn(3, 64, 16, 4, 4), torch.randn(3, 40, 16, 4, 4), owners_of(10, 2, True)
    one = METRICS["feature"](Measurements(real, synthetic, prefix_weights(owners, CPU)))
    other = METRICS["feature"](Measurements(real.to(cuda), synthetic.to(cuda), prefix_weights(owners, cuda)))
    torch.testing.assert_close(other.cpu(), one, rtol=1e-9, atol=1e-9)
    assert torch.equal(
        trainable_mask(np.array([2, 0]), owners, cuda).cpu(), trainable_mask(np.array([2, 0]), owners, CPU)
    )
