"""Truncated SVD against NumPy's, one matrix at a time in float64."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression.svd import Svd, factors
from dcpipe.types import LabelShape


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


def test_rank_is_the_largest_that_fits_and_never_beyond_full() -> None:
    shape = LabelShape(4, 300, 200)
    per_rank = 2 * 4 * 500
    assert [Svd.plan(shape, b).rank for b in (per_rank, 2 * per_rank - 1, 2 * per_rank)] == [1, 1, 2]
    assert Svd.plan(shape, 10**9).rank == 200
    assert Svd.plan(shape, shape.reference_bytes // 20).rank == 6  # exactly, see the table of ranks at C = 200


def test_large_logits_do_not_overflow_fp16() -> None:
    shape = LabelShape(1, 300, 200)
    logits = torch.full((1, 300, 200), 60000.0)
    arrays = encode(Svd(1), logits, np.arange(1), shape)
    decoded = decode(Svd(1), arrays, np.array([0]), np.array([299]), shape)
    torch.testing.assert_close(decoded, logits[:, 0], rtol=2e-3, atol=0)
