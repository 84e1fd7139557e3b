"""ZCA whitening: against float64 NumPy, its inverse, its covariance, blocks, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.types import DataError, Whitening
from dcpipe.views.whitening import Whitener, fit

SIDE, EPS = 4, 0.1
D = 3 * SIDE**2


def images(n: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """u8 [n, s, s, 3] with neighbours that are alike, as in natural images."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (n, 1, side, 3))
    return (coarse + rng.integers(0, 56, (n, side, side, 3))).astype(np.uint8)


def vectors(stored: np.ndarray) -> np.ndarray:
    """f64 [n, d] in the order channel, row, column."""
    return stored.astype(np.float64).transpose(0, 3, 1, 2).reshape(len(stored), -1) / 255


def reference(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, W and the eigenvalues of the covariance, from singular values as kornia computes them."""
    mean = x.mean(0)
    centred = x - mean
    u, s, _ = np.linalg.svd(centred.T @ centred / (len(x) - 1))
    return mean, u @ np.diag((s + eps) ** -0.5) @ u.T, s


def plain(stored: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(stored).permute(0, 3, 1, 2).to(dtype) / 255


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.sampled_from([2, 7, D, 4 * D]), eps=st.sampled_from([1e-3, 0.1, 2.0]))
def test_it_is_the_reference_and_has_an_inverse(seed: int, n: int, eps: float) -> None:
    stored = images(n, seed)
    whitener, (mean, matrix, _) = fit(torch.from_numpy(stored), eps), reference(vectors(stored), eps)
    assert np.allclose(whitener.mean, mean, atol=1e-14)
    assert np.allclose(whitener.matrix, matrix, atol=1e-9 / eps)
    assert torch.equal(whitener.matrix, whitener.matrix.T)
    inputs = whitener(plain(stored))
    assert inputs.shape == (n, 3, SIDE, SIDE)
    assert np.allclose(inputs.flatten(1), (vectors(stored) - mean) @ matrix, atol=1e-9 / eps)
    assert torch.allclose(whitener.undo(inputs), plain(stored), atol=1e-10, rtol=0)


def test_the_covariance_after_is_s_over_s_plus_eps() -> None:
    stored = images(300)
    _, _, values = reference(vectors(stored), EPS)
    after = fit(torch.from_numpy(stored), EPS)(plain(stored)).flatten(1).numpy()
    assert np.allclose(np.sort(np.linalg.eigvalsh(np.cov(after.T))), np.sort(values / (values + EPS)), atol=1e-10)
    assert np.allclose(np.cov(fit(torch.from_numpy(stored), 0.0)(plain(stored)).flatten(1).numpy().T), np.eye(D))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_are_the_whole(block: int) -> None:
    stored = torch.from_numpy(images(100))
    whole, parts = fit(stored, EPS, block=1000), fit(stored, EPS, block=block)
    assert torch.allclose(whole.matrix, parts.matrix, atol=1e-12) and torch.allclose(whole.mean, parts.mean, atol=1e-15)


def test_no_eps_is_refused_without_full_rank() -> None:
    with pytest.raises(
        DataError, match=f"eps 0 is too small, because 20 images of {D} numbers have a covariance of rank"
    ):
        fit(torch.from_numpy(images(20)), 0.0)
    constant = images(300)
    constant[:, 0, 0] = 9
    with pytest.raises(DataError, match=f"of rank {D - 3}; set whitening: 0.1"):
        fit(torch.from_numpy(constant), 0.0)


def test_one_image_and_large_ones_are_refused() -> None:
    with pytest.raises(DataError, match="1 image has no covariance"):
        fit(torch.from_numpy(images(1)), EPS)
    with pytest.raises(DataError, match=r"for images of 65 x 65 pixels has 642,622,500 bytes; leave whitening out"):
        fit(torch.from_numpy(images(2, side=65)), EPS)


def test_bytes_are_off_by_half_a_step_times_the_largest_factor() -> None:
    """Rounding to u8 in pixel space is at most eps^(-1/2) as large in whitened space."""
    stored = images(200)
    whitener = fit(torch.from_numpy(stored), EPS)
    moved = plain(stored).clamp(0.01, 0.99) + 0.004 * torch.rand(200, 3, SIDE, SIDE, dtype=torch.float64)
    kept = (moved * 255).round() / 255
    error = (whitener(kept) - whitener(moved)).square().mean().sqrt()
    step = (kept - moved).square().mean().sqrt()
    assert 0.25 / 255 < step < 0.33 / 255 and step < error <= EPS**-0.5 * step


def test_what_is_stored_is_the_same_transform_in_f32() -> None:
    stored = images(100)
    whitener = fit(torch.from_numpy(stored), EPS)
    again = Whitener.of(whitener.stored(), "cpu")
    assert again.eps == EPS and again.matrix.dtype == torch.float32
    assert torch.allclose(again(plain(stored, torch.float32)).double(), whitener(plain(stored)), atol=1e-4)
    with pytest.raises(DataError, match="are not those of square images"):
        Whitening(np.zeros(13, dtype=np.float32), np.zeros((13, 13), dtype=np.float32), 0.1)
