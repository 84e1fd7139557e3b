"""Principal component pursuit against the textbook's loop on one matrix with a full SVD in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import pursuit
from dcpipe.compression.pursuit import pursue
from dcpipe.types import DataError


def textbook(matrix: np.ndarray, lam: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Inexact ALM as printed: one matrix, full SVDs, float64."""
    norm_two = np.linalg.norm(matrix, 2)
    Y = matrix / max(norm_two, np.abs(matrix).max() / lam)
    L = np.zeros_like(matrix)
    mu, limit = 1.25 / norm_two, 1.25 / norm_two * 1e7
    for _ in range(1000):
        T = matrix - L + Y / mu
        S = np.maximum(T - lam / mu, 0) + np.minimum(T + lam / mu, 0)
        u, sigma, v = np.linalg.svd(matrix - S + Y / mu, full_matrices=False)
        L = (u * np.maximum(sigma - 1 / mu, 0)) @ v
        Z = matrix - L - S
        Y = Y + mu * Z
        mu = min(mu * 1.5, limit)
        if np.linalg.norm(Z) <= tolerance * np.linalg.norm(matrix):
            return L, S
    raise AssertionError("did not converge")


def logits(n: int, k: int, c: int, noise: float, rank: int = 3, share: float = 0.02, seed: int = 0) -> torch.Tensor:
    """f64: low rank, outliers and dense noise."""
    rng = np.random.default_rng(seed)
    low = 3 * rng.normal(size=(n, k, rank)) @ rng.normal(size=(n, rank, c))
    odd = 8 * rng.normal(size=(n, k, c)) * (rng.random((n, k, c)) < share)
    return torch.from_numpy(low + odd + noise * rng.normal(size=(n, k, c)))


def hidden() -> torch.Tensor:
    """Four blocks that share neither rows nor columns, each a hundredth of the one before: no power of the first ones
    ever meets the later ones."""
    matrix = np.zeros((96, 120))
    rng = np.random.default_rng(3)
    for i in range(4):
        rows, columns = slice(24 * i, 24 * i + 24), slice(30 * i, 30 * i + 30)
        matrix[rows, columns] = 100.0**-i * np.outer(rng.normal(size=24), rng.normal(size=30))
    return torch.from_numpy(matrix)[None]


def decaying(k: int, c: int) -> torch.Tensor:
    """Singular values that fall by a tenth each, as in teachers' logits: no gap anywhere."""
    rng = np.random.default_rng(4)
    left, right = (np.linalg.qr(rng.normal(size=(size, min(k, c))))[0] for size in (k, c))
    return torch.from_numpy((left * 0.9 ** np.arange(min(k, c))) @ right.T)[None]


def relative(found: torch.Tensor, expected: np.ndarray, whole: torch.Tensor) -> float:
    return float(np.linalg.norm(found.double().numpy() - expected) / whole.double().norm())


CASES = {
    "clean": logits(2, 90, 130, 0.0),
    "noisy": logits(2, 90, 130, 0.3),
    "tall": logits(2, 130, 80, 0.3),
    "tiny": logits(3, 12, 7, 0.1),
    "square": logits(1, 20, 20, 0.0),
    "one row": logits(2, 1, 9, 0.3),
    "one column": logits(2, 9, 1, 0.3),
    "one entry": logits(2, 1, 1, 0.3),
    "rank one": logits(1, 70, 90, 0.0, rank=1, share=0.0),
    "duplicated rows": logits(1, 40, 90, 0.3).repeat(1, 2, 1),
    "only outliers": logits(1, 80, 100, 0.0, rank=0),
    "hidden": hidden(),
    "decaying": decaying(100, 120),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_textbook(case: str) -> None:
    matrices = CASES[case]
    lam = max(matrices.shape[1:]) ** -0.5
    for dtype, tolerance, error in ((torch.float64, 1e-7, 1e-7), (torch.float32, 1e-5, 2e-5)):
        low, sparse = pursue(matrices.to(dtype), lam=lam, tolerance=tolerance)
        assert low.dtype == sparse.dtype == dtype and low.shape == sparse.shape == matrices.shape
        for image, matrix in enumerate(matrices):
            expected = textbook(matrix.numpy(), lam, tolerance)
            assert relative(low[image], expected[0], matrix) < error
            assert relative(sparse[image], expected[1], matrix) < error
            assert float(((sparse[image].numpy() != 0) != (expected[1] != 0)).mean()) < 2e-3  # ties at the threshold


@pytest.mark.parametrize(
    ("case", "dtypes", "followed"),
    [("clean", {torch.float32}, {True}), ("noisy", {torch.float32}, {True, False}), ("tiny", {torch.float64}, set())],
)
def test_each_way_is_used(case: str, dtypes: set, followed: set, monkeypatch: pytest.MonkeyPatch) -> None:
    squared, few = [], []
    spectrum, follow = pursuit._spectrum, pursuit._follow

    def spy_spectrum(X: torch.Tensor) -> tuple:
        squared.append(X.dtype)
        return spectrum(X)

    def spy_follow(*arguments: object) -> tuple:
        found = follow(*arguments)
        few.append(found[1])
        return found

    monkeypatch.setattr(pursuit, "_spectrum", spy_spectrum)
    monkeypatch.setattr(pursuit, "_follow", spy_follow)
    matrices = CASES[case].float()
    pursue(matrices, lam=max(matrices.shape[1:]) ** -0.5, tolerance=1e-5)
    assert set(few) == followed and dtypes <= set(squared)
    if case == "clean":
        assert len(squared) == 1  # that of M, for its largest singular value


@pytest.mark.parametrize("size", [(70, 90), (9, 14)])
@pytest.mark.parametrize("t", [0.3, 1e-2, 1e-3])
def test_singular_values_are_shrunk_exactly(size: tuple[int, int], t: float) -> None:
    """Whatever block came before, good, bad or none."""
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.normal(size=(side, size[0])))[0] for side in size)
    sigma = np.concatenate(([1, 0.6, 0.05], 2e-3 * rng.random(size[0] - 3)))
    X, expected = ((left * values) @ right.T for values in (sigma, np.maximum(sigma - t, 0)))
    slack = torch.full((1, 1), 5e-7)
    wild = np.linalg.qr(rng.normal(size=(size[0], min(11, size[0]))))[0]
    for basis in (left[:, :11], wild, None):
        start = None if basis is None or size[0] < 48 else torch.from_numpy(basis)[None].float()
        low, block = pursuit._shrink_spectrum(torch.from_numpy(X)[None].float(), t, start, slack)
        assert np.linalg.norm(low[0].numpy() - expected) < 3e-6
        assert block is None or block.shape[-1] <= size[0] // 6


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    matrices = CASES["noisy"].float()
    expected = pursue(matrices, lam=0.1, tolerance=1e-5)
    found = pursue(matrices * scale, lam=0.1, tolerance=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert float((one.double() / scale - other.double()).norm() / matrices.double().norm()) < 1e-5


def test_zero_matrices_and_no_matrices() -> None:
    low, sparse = pursue(torch.zeros(2, 60, 70), lam=0.1, tolerance=1e-5)
    assert not low.any() and not sparse.any()
    assert pursue(torch.zeros(0, 60, 70), lam=0.1, tolerance=1e-5)[0].shape == (0, 60, 70)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_does_not_depend_on_other_images(dtype: torch.dtype) -> None:
    parts = [CASES["clean"], CASES["noisy"], 1e4 * CASES["noisy"], torch.zeros(1, 90, 130), logits(1, 90, 130, 0, 20)]
    matrices = torch.cat(parts).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-7
    together = pursue(matrices, lam=0.1, tolerance=tolerance)
    again = pursue(matrices, lam=0.1, tolerance=tolerance)
    for image in range(len(matrices)):
        alone = pursue(matrices[image : image + 1], lam=0.1, tolerance=tolerance)
        for found, same, expected in zip(together, again, alone, strict=True):
            assert torch.equal(found, same)
            assert float((found[image] - expected[0]).norm()) <= tolerance * float(matrices[image].norm())


def test_blocks_of_images_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = CASES["tiny"]
    expected = pursue(matrices, lam=0.3, tolerance=1e-7)
    monkeypatch.setattr(pursuit, "_BLOCK_VALUES", 2 * 12 * 7)
    for found, whole in zip(pursue(matrices, lam=0.3, tolerance=1e-7), expected, strict=True):
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 8), st.sampled_from([0.0, 0.01, 1.0]), st.integers(0, 99))
def test_parts_add_up_and_cost_no_more_than_the_textbooks(k: int, c: int, rank: int, noise: float, seed: int) -> None:
    """L + S = M; and lam ||S||_1 + ||L||_* is no more than the textbook's. (That is not always the least: with mu
    growing by half each time, the inexact method may stop above it, on 2 x 2 matrices by as much as a sixth.)"""
    matrices = logits(2, k, c, noise, rank, 0.1, seed)
    lam = max(k, c) ** -0.5
    low, sparse = pursue(matrices.float(), lam=lam, tolerance=1e-5)
    for image, matrix in enumerate(matrices):
        assert float((low[image] + sparse[image] - matrix).norm()) <= 1.2e-5 * float(matrix.norm())
        if float(matrix.norm()) == 0:
            continue  # the textbook divides by it
        expected = [torch.from_numpy(part) for part in textbook(matrix.numpy(), lam, 1e-5)]
        cost, least = (
            float(torch.linalg.matrix_norm(part.double(), "nuc") + lam * rest.double().abs().sum())
            for part, rest in ((low[image], sparse[image]), expected)
        )
        assert cost <= 1.001 * least + 1e-9


def test_what_cannot_be_solved_is_refused() -> None:
    matrices = CASES["tiny"]
    with pytest.raises(DataError) as caught:
        pursue(matrices.float(), lam=0.3, tolerance=1e-12)
    assert str(caught.value) == (
        "codec 'rpca': 3 of 3 images did not reach tolerance 1e-12 in 200 iterations; "
        "give a larger tolerance or precision float64"
    )
    matrices = matrices.clone()
    matrices[1, 2, 3] = float("nan")
    with pytest.raises(DataError, match="codec 'rpca': logits contain NaN or infinity; compute the labels again"):
        pursue(matrices, lam=0.3, tolerance=1e-5)


@pytest.mark.parametrize("shape", [(30, 40), (60, 25)])
def test_agrees_with_an_independent_implementation(shape: tuple[int, int]) -> None:
    """`pyrpca` updates L before S and starts from another dual: on clean input both end at the planted parts."""
    pyrpca = pytest.importorskip("pyrpca")
    [matrix] = logits(1, *shape, noise=0.0, rank=2)
    low, sparse = pursue(matrix[None], lam=max(shape) ** -0.5, tolerance=1e-7)
    expected_low, expected_sparse = pyrpca.rpca_pcp_ialm(matrix.numpy(), max(shape) ** -0.5, tol=1e-7, verbose=False)
    assert relative(low[0], expected_low, matrix) < 1e-5
    assert relative(sparse[0], expected_sparse, matrix) < 1e-5
