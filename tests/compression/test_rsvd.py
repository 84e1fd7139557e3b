"""Randomized SVD against the same algorithm written slowly in float64, and against the best error."""

import math

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, payload
from dcpipe.compression.rsvd import Rsvd, normals, randomized_factors
from dcpipe.compression.svd import Svd
from dcpipe.random import philox
from dcpipe.types import DataError, LabelShape

PINNED = [
    [-0.3481471953145072, -1.6673296503360893, -0.8045840856652244],
    [1.834246551980498, -0.23443074653560234, 1.879647692765263],
]


def omega_slowly(seed: int, image: int, height: int, width: int) -> np.ndarray:
    """Box and Muller, number by number: four words make two cosines, then two sines."""
    numbers = []
    for quarter in range(-(-height * width // 4)):
        u = [int(word >> np.uint64(11)) / 2**53 for word in philox(seed, quarter, 17, image)]
        radii = [math.sqrt(-2 * math.log(1 - x)) for x in u[:2]]
        numbers += [radius * math.cos(2 * math.pi * x) for radius, x in zip(radii, u[2:], strict=True)]
        numbers += [radius * math.sin(2 * math.pi * x) for radius, x in zip(radii, u[2:], strict=True)]
    return np.array(numbers[: height * width]).reshape(height, width)


def slowly(matrix: np.ndarray, rank: int, omega: np.ndarray, power_iterations: int) -> np.ndarray:
    """Alg. 4.4 and 5.1 on one matrix in float64: the approximation of that rank."""
    A = matrix.astype(np.float64)
    if A.shape[0] < A.shape[1]:
        return slowly(A.T, rank, omega, power_iterations).T
    Q = np.linalg.qr(A @ omega)[0]
    for _ in range(power_iterations):
        Q = np.linalg.qr(A @ np.linalg.qr(A.T @ Q)[0])[0]
    u, sigma, v = np.linalg.svd(Q.T @ A, full_matrices=False)
    return Q @ (u[:, :rank] * sigma[:rank]) @ v[:rank]


def best_error(matrix: np.ndarray, rank: int) -> float:
    return float(np.linalg.norm(np.linalg.svd(matrix.astype(np.float64), compute_uv=False)[rank:]))


@pytest.mark.parametrize(("height", "width"), [(5, 3), (4, 1), (1, 1), (8, 4)])
def test_test_matrices_are_those_of_box_and_muller(height: int, width: int) -> None:
    rows = np.array([4, 9])
    found = normals(6, rows, height, width)
    for image, matrix in zip(rows, found, strict=True):
        np.testing.assert_allclose(matrix, omega_slowly(6, int(image), height, width), rtol=1e-12, atol=1e-14)


def test_test_matrices_are_normal_and_reproducible() -> None:
    numbers = normals(0, np.arange(200), 40, 7).ravel()
    assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.01
    assert abs((numbers**4).mean() - 3) < 0.1 and abs((numbers**3).mean()) < 0.06
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    np.testing.assert_allclose(normals(3, np.array([2]), 2, 3)[0], PINNED, rtol=1e-12)


@pytest.mark.parametrize("size", [(3, 40, 12), (3, 12, 40), (3, 16, 16)])
@pytest.mark.parametrize(("rank", "oversampling", "iterations"), [(1, 2, 2), (3, 4, 0), (4, 1, 1), (12, 10, 2)])
def test_equals_the_algorithm_in_float64(
    size: tuple[int, int, int], rank: int, oversampling: int, iterations: int
) -> None:
    logits = labels(LabelShape(*size)).double()
    width = min(rank + oversampling, *size[1:])
    omega = normals(0, np.arange(3), min(size[1:]), width)
    left, right = randomized_factors(logits, rank, torch.from_numpy(omega), iterations)
    for image in range(3):
        expected = slowly(logits[image].numpy(), rank, omega[image], iterations)
        np.testing.assert_allclose(left[image] @ right[image], expected, atol=1e-8 * float(logits[image].norm()))
    torch.testing.assert_close(torch.linalg.vector_norm(left, dim=1), torch.linalg.vector_norm(right, dim=2))


def test_a_pack_decodes_to_the_algorithm_image_by_image() -> None:
    shape = LabelShape(4, 30, 50)
    logits = labels(shape)
    codec = Rsvd(3, oversampling=4, power_iterations=1, seed=8, extra=2)
    decoded = decode(codec, encode(codec, logits, np.arange(4), shape), *held_pairs(codec, shape), shape)
    for image, rank in enumerate([4, 4, 3, 3]):
        expected = slowly(logits[image].numpy(), rank, omega_slowly(8, image, 30, 8), 1)
        np.testing.assert_allclose(decoded.reshape(logits.shape)[image], expected, atol=3e-2)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32))
def test_the_error_is_close_to_the_best(k: int, c: int, rank: int, seed: int) -> None:
    shape, rank = LabelShape(2, k, c), min(rank, k, c)
    logits = labels(shape, seed)
    codec = Rsvd(rank, oversampling=10, power_iterations=2, seed=seed)
    decoded = decode(codec, encode(codec, logits, np.arange(2), shape), *held_pairs(codec, shape), shape)
    for matrix, found in zip(logits.double().numpy(), decoded.double().reshape(2, k, c).numpy(), strict=True):
        best, rounding = best_error(matrix, rank), 1e-3 * np.linalg.norm(matrix) + 1e-6
        assert best - rounding <= np.linalg.norm(matrix - found) <= 1.1 * best + rounding


def test_power_iterations_help_where_the_spectrum_falls_slowly() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(4, 80, 60)))
    omega = torch.from_numpy(normals(0, np.arange(4), 60, 9))
    errors = []
    for iterations in (0, 1, 2):
        left, right = randomized_factors(noise, 4, omega, iterations)
        errors.append(float((noise - left @ right).norm()))
    best = math.sqrt(sum(best_error(matrix, 4) ** 2 for matrix in noise.numpy()))
    assert errors[0] > errors[1] > errors[2] > best and errors[2] < 1.01 * best


def test_planted_labels_of_that_rank_come_back() -> None:
    shape = LabelShape(3, 40, 25)
    rng = np.random.default_rng(0)
    low = torch.from_numpy(rng.normal(size=(3, 40, 3)) @ rng.normal(size=(3, 3, 25))).float()
    codec = Rsvd(3, 5, 2, 0)
    decoded = decode(codec, encode(codec, low, np.arange(3), shape), *held_pairs(codec, shape), shape)
    assert float((decoded.reshape(low.shape) - low).norm() / low.norm()) < 1e-3


@settings(deadline=None, max_examples=60)
@given(st.builds(LabelShape, st.integers(1, 60), st.integers(1, 300), st.integers(2, 1000)), st.floats(1, 60))
def test_bytes_and_arrays_are_those_of_svd(shape: LabelShape, ratio: float) -> None:
    budget = max(int(shape.reference_bytes / ratio), 2 * shape.images * (shape.views + shape.classes))
    codec, plain = Rsvd.plan(shape, budget), Svd.plan(shape, budget)
    assert codec.specs(shape) == plain.specs(shape) and payload(codec.specs(shape)) <= budget


def test_an_image_does_not_depend_on_its_block() -> None:
    shape = LabelShape(6, 20, 13)
    logits, codec = labels(shape), Rsvd(2, 3, 1, 5, extra=3)
    parts = (np.arange(2), np.arange(2, 4), np.arange(4, 6))
    joined = join([encode(codec, logits[part], part, shape) for part in parts])
    assert {name: (array.shape, array.dtype.name) for name, array in joined.items()} == codec.specs(shape)
    pairs = held_pairs(codec, shape)
    whole = decode(codec, encode(codec, logits, np.arange(6), shape), *pairs, shape)
    torch.testing.assert_close(decode(codec, joined, *pairs, shape), whole, rtol=2e-3, atol=1e-2)


def test_another_seed_gives_other_factors() -> None:
    shape = LabelShape(2, 30, 25)
    first, again, other = (
        encode(Rsvd(2, 0, 0, seed), labels(shape), np.arange(2), shape)["left"] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.allclose(first, other, atol=1e-2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"oversampling": -1}, "codec 'rsvd': oversampling is -1: input should be greater than or equal to 0"),
        ({"power_iterations": -2}, "codec 'rsvd': power_iterations is -2: input should be greater than or equal to 0"),
    ],
)
def test_options_are_checked(options: dict, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Rsvd.plan(LabelShape(2, 30, 20), 10**6, **options)
    assert str(caught.value) == sentence


def test_a_budget_below_rank_one_names_its_size() -> None:
    with pytest.raises(DataError) as caught:
        Rsvd.plan(LabelShape(7, 12, 9), 100)
    assert str(caught.value) == (
        "codec 'rsvd': its arrays take at least 294 bytes (5.14x below fp16) but the budget leaves 100 after the "
        "header; choose a smaller ratio or codec 'prune'"
    )
