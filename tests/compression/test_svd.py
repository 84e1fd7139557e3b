"""Truncated SVD against NumPy's, one matrix at a time in float64."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, payload
from dcpipe.compression.svd import Svd, factors
from dcpipe.types import DataError, LabelShape


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, sigma, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ v[:rank]


@pytest.mark.parametrize("size", [(3, 20, 8), (3, 8, 20), (3, 9, 9)])
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_factors_are_the_truncated_svd(size: tuple[int, int, int], rank: int) -> None:
    logits = labels(LabelShape(*size))
    left, right = factors(logits.double(), rank)
    for matrix, product in zip(logits.numpy(), (left @ right).numpy(), strict=True):
        np.testing.assert_allclose(product, truncated(matrix, rank), atol=1e-9)
    # Balanced: both factors carry the square roots of the singular values.
    sigma = np.linalg.svd(logits.double().numpy(), compute_uv=False)[:, :rank]
    np.testing.assert_allclose(torch.linalg.vector_norm(left, dim=1) ** 2, sigma, rtol=1e-9)
    np.testing.assert_allclose(torch.linalg.vector_norm(right, dim=2) ** 2, sigma, rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32))
def test_no_matrix_of_that_rank_is_closer(k: int, c: int, rank: int, seed: int) -> None:
    """Eckart and Young: the error is the energy of the singular values left out, up to fp16 rounding."""
    shape, rank = LabelShape(2, k, c), min(rank, k, c)
    logits = labels(shape, seed)
    codec = Svd(rank)
    decoded = decode(codec, encode(codec, logits, np.arange(2), shape), *held_pairs(codec, shape), shape)
    for matrix, found in zip(logits.double().numpy(), decoded.double().reshape(2, k, c).numpy(), strict=True):
        best = np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[rank:])
        rounding = 1e-3 * np.linalg.norm(matrix) + 1e-6
        assert best - rounding <= np.linalg.norm(matrix - found) <= best + rounding


def test_components_are_as_many_as_fit_and_never_beyond_full_rank() -> None:
    shape = LabelShape(4, 300, 200)
    one = 2 * 500
    plans = [Svd.plan(shape, budget) for budget in (4 * one, 5 * one - 1, 5 * one, 7 * one, 8 * one)]
    assert plans == [Svd(1), Svd(1), Svd(1, 1), Svd(1, 3), Svd(2)]
    assert Svd.plan(shape, 10**9) == Svd(200)
    assert Svd.plan(shape, shape.reference_bytes // 20) == Svd(6)  # exactly, see the table of ranks at C = 200


@settings(deadline=None, max_examples=100)
@given(
    st.builds(LabelShape, st.integers(1, 60), st.integers(1, 300), st.integers(2, 1000)),
    st.floats(1, 60),
)
def test_arrays_use_the_budget_up_to_one_component(shape: LabelShape, ratio: float) -> None:
    one = 2 * (shape.views + shape.classes)
    budget = max(int(shape.reference_bytes / ratio), shape.images * one)
    codec = Svd.plan(shape, budget)
    left = budget - payload(codec.specs(shape))
    assert 0 <= left < one or codec == Svd(min(shape.views, shape.classes))
    if shape.images * codec.rank >= 50 and codec.rank < min(shape.views, shape.classes):
        assert left <= 0.02 * budget


def test_the_first_images_get_the_component_that_others_lack() -> None:
    shape, rows = LabelShape(5, 9, 6), np.arange(5)
    logits = labels(shape)
    codec = Svd(2, 3)
    arrays = encode(codec, logits, rows, shape)
    assert {name: array.shape for name, array in arrays.items()} == {
        "left": (5, 9, 2),
        "right": (5, 2, 6),
        "left_more": (3, 9),
        "right_more": (3, 6),
    }
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    for image, rank in enumerate([3, 3, 3, 2, 2]):
        np.testing.assert_allclose(decoded[image], truncated(logits[image].numpy(), rank), atol=2e-2)


@pytest.mark.parametrize("extra", [0, 1, 2, 4, 6])
def test_blocks_before_across_and_beyond_the_last_extra_image(extra: int) -> None:
    shape = LabelShape(7, 9, 6)
    logits, codec = labels(shape), Svd(2, extra)
    parts = (np.arange(2), np.arange(2, 5), np.arange(5, 7))
    joined = join([encode(codec, logits[part], part, shape) for part in parts])
    assert {name: (array.shape, array.dtype.name) for name, array in joined.items()} == codec.specs(shape)
    pairs = held_pairs(codec, shape)
    whole = decode(codec, encode(codec, logits, np.arange(7), shape), *pairs, shape)
    torch.testing.assert_close(decode(codec, joined, *pairs, shape), whole, rtol=2e-3, atol=1e-2)
    order = np.random.default_rng(0).permutation(len(pairs[0]))
    shuffled = decode(codec, joined, pairs[0][order], pairs[1][order], shape)
    torch.testing.assert_close(shuffled, whole[torch.from_numpy(order)], rtol=2e-3, atol=1e-2)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.integers(0, 2000), st.integers(0, 2000))
def test_the_error_does_not_grow_with_the_budget(k: int, c: int, seed: int, first: int, more: int) -> None:
    shape = LabelShape(4, k, c)
    logits = labels(shape, seed)
    errors = []
    for budget in (8 * (k + c) + first, 8 * (k + c) + first + more):
        codec = Svd.plan(shape, budget)
        decoded = decode(codec, encode(codec, logits, np.arange(4), shape), *held_pairs(codec, shape), shape)
        errors.append(float((decoded.reshape(logits.shape) - logits).norm()))
    assert errors[1] <= errors[0] + 1e-3 * float(logits.norm()) + 1e-6


def test_settings_without_a_remainder_are_unchanged() -> None:
    assert Svd(2).settings == {"rank": 2} and Svd(2, 3).settings == {"rank": 2, "extra": 3}
    assert Svd(**{"rank": 2}) == Svd(2, 0)


def test_large_logits_do_not_overflow_fp16() -> None:
    shape = LabelShape(1, 300, 200)
    logits = torch.full((1, 300, 200), 60000.0)
    arrays = encode(Svd(1), logits, np.arange(1), shape)
    decoded = decode(Svd(1), arrays, np.array([0]), np.array([299]), shape)
    torch.testing.assert_close(decoded, logits[:, 0], rtol=2e-3, atol=0)


def test_svd_with_ten_classes_reaches_at_most_9_7() -> None:
    with pytest.raises(DataError, match=r"at least 620 bytes \(9.68x below fp16\) but the budget leaves 600"):
        Svd.plan(LabelShape(1, 300, 10), 600)
