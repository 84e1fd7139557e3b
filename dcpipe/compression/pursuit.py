"""Principal component pursuit of many matrices at once: M = L + S, L of low rank and S sparse.

    min ||L||_* + lam ||S||_1   subject to   L + S = M

(Candes, Li, Ma and Wright, "Robust principal component analysis?", JACM 2011), by the inexact augmented Lagrange
multiplier method (Lin, Chen and Ma, "The augmented Lagrange multiplier method for exact recovery of corrupted low-rank
matrices", 2010, Alg. 5) with its constants: Y0 = M / max(||M||_2, max|M| / lam), mu0 = 1.25 / ||M||_2, rho = 1.5 up to
1e7 mu0, stop at ||M - L - S||_F <= tolerance ||M||_F.

Written with the threshold t = 1 / mu and the scaled dual V = Y / mu, an iteration is

    A = M + V - L;  C = clip(A, -lam t, lam t);  S = A - C;  X = L + C;
    L = SVT(X, t), singular values shrunk by t;  W = X - L;  M - L - S = W - V;  V = W t' / t, t' the next threshold.

S is updated first, as in the authors' MATLAB code. The method is inexact: if M has dense noise, updating L first gives
an L that differs by 4e-3 and has an objective lower by 2e-4; if M is clean, both orders give the same parts.

Every matrix is first divided by its ||M||_2, so that t is the same for all images and no scale overflows or underflows.

Almost all time is spent in SVT. There are three ways, and the cheapest one that is exact to 5 % of the tolerance is
used:

1. If few singular values are above t, as in the first iterations, or in all iterations if M is clean: a block Q of p x
   s orthonormal columns, which is carried over from one iteration to the next, tracks the leading singular vectors. X =
   Q B + R with B = Q^T X, rotated so that the rows of B are orthogonal (Rayleigh-Ritz) with lengths sigma_j. The
   columns with sigma_j > t give SVT(X) up to an error of 2 ||R B^T diag(1 / sigma)||_F: without this part of R, the row
   spaces of Q B and R would be orthogonal too, and SVT never increases a difference. Power steps Q <- qr(X B^T) are
   repeated until this error is small. Q has eight more columns than needed, four of which are new noise in each
   iteration. They detect when more singular values approach t; then way 2 is used.
2. If there are many: eigenvectors U of the smaller Gram matrix, SVT(X) = U diag(max(1 - t / sigma, 0)) U^T X, in fp32
   if M is fp32. Squaring gives a singular value s an error of about eps ||X||_2^2 / 2 s, which is too large for those
   near t if the largest is a thousand times t (residuals stall at 1e-4). So Q contains the singular values above sqrt(2
   t slack / eps), which are shrunk as in 1, and only the rest R is squared.
3. If such a block is too wide or does not converge: the Gram matrix in float64.

As in any partial SVD, way 1 relies on the noise to overlook no singular value above t: a direction in which the noise
has no component, up to rounding, cannot be detected. Lin et al. predict the rank of a partial SVD from the previous
iteration; here it is checked.

Cost for K = 300, C = 1000 in fp32 on one core: a full SVD takes 27-37 ms, way 1 1.5 ms, way 2 9 ms (4 ms for the
eigenvectors and 4 ms for products at the full speed of the core), way 3 14 ms. With dense noise, two thirds of 25
iterations use way 2, so the eigenvectors limit the speed-up there (benchmarks/labels.py has the ratios).
"""

from __future__ import annotations

import functools

import torch

from dcpipe.random import Draw, philox, uniform
from dcpipe.types import DataError, require

_FIRST, _GROWTH, _LIMIT = 0.8, 1.5, 1e-7  # 1 / 1.25, rho, and mu0 / mu_max
_MOST_ITERATIONS = 200  # t reaches its limit after 40; twenty more suffice if the tolerance can be reached at all
_BLOCK_VALUES = 2**19  # outside the cache, a dozen passes over the matrices of an image cost as much as its products
_SLACK = 0.05  # share of the tolerance: the error of L in one iteration
_SPARE = 8  # additional columns of Q, half of them noise
_NEAR = 0.75  # singular values above this share of t count as close to it
_MOST_STEPS = 8  # power steps per iteration; one or two are usual
_STRIP = 50  # columns of a Gram matrix that are computed at a time


def pursue(matrices: torch.Tensor, *, lam: float, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Principal component pursuit of each matrix: L and S, both [b, K, c] like the input and in its dtype.

    Raises `DataError` if 200 iterations do not reach the tolerance.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        low, sparse = pursue(matrices.mT.contiguous(), lam=lam, tolerance=tolerance)
        return low.mT, sparse.mT
    require(bool(matrices.isfinite().all()), "codec 'rpca': logits contain NaN or infinity; compute the labels again")
    low, sparse = torch.zeros_like(matrices), torch.zeros_like(matrices)
    values = matrices.shape[-2] * matrices.shape[-1]
    together = max(1, _BLOCK_VALUES // values if matrices.device.type == "cpu" else len(matrices))
    failed = 0
    for start in range(0, len(matrices), together):
        block = slice(start, start + together)
        failed += _pursue(matrices[block], low[block], sparse[block], lam, tolerance)
    if failed:
        raise DataError(
            f"codec 'rpca': {failed} of {len(matrices)} images did not reach tolerance {tolerance} in "
            f"{_MOST_ITERATIONS} iterations; give a larger tolerance or precision float64"
        )
    return low, sparse


def _pursue(matrices: torch.Tensor, low: torch.Tensor, sparse: torch.Tensor, lam: float, tolerance: float) -> int:
    """Fills `low` and `sparse` for matrices [b, p, q], p <= q; returns how many did not converge."""
    scale = _or_one(matrices.abs().amax((-2, -1), keepdim=True))
    M = matrices / scale
    sigma, vectors = _spectrum(M)
    spectral = _or_one(sigma[:, :1, None])
    M, scale, sigma = M / spectral, scale * spectral, sigma / spectral[:, :, 0]
    size = torch.linalg.matrix_norm(M, keepdim=True)
    slack = _SLACK * tolerance * size[:, :, 0]
    waiting = torch.arange(len(M), device=M.device)
    t = _FIRST
    V = t * M / (M.abs().amax((-2, -1), keepdim=True) / lam).clamp_min(1)
    L = torch.zeros_like(M)
    basis = _leading(sigma, vectors, t, _safe(t, slack))
    for _ in range(_MOST_ITERATIONS):
        A = M + V
        A -= L
        C = A.clamp(-lam * t, lam * t)
        X = L.add_(C)
        L, basis = _shrink_spectrum(X, t, basis, slack)
        W = X - L
        done = (torch.linalg.matrix_norm(V.sub_(W), keepdim=True) <= tolerance * size)[:, 0, 0]
        if bool(done.any()):
            low[waiting[done]] = L[done] * scale[done]
            sparse[waiting[done]] = (A[done] - C[done]) * scale[done]
            M, L, W, size, scale, slack, waiting = (x[~done] for x in (M, L, W, size, scale, slack, waiting))
            basis = None if basis is None else basis[~done]
        if len(waiting) == 0:
            return 0
        t, before = max(t / _GROWTH, _FIRST * _LIMIT), t
        V = W.mul_(t / before)
    return len(waiting)


def _or_one(values: torch.Tensor) -> torch.Tensor:
    """Divisors; 1 instead of 0 for zero matrices, which then converge at once."""
    return torch.where(values > 0, values, 1)


def _spectrum(X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values [b, p], largest first, and left singular vectors [b, p, p], in the precision of X."""
    gram = X.new_zeros(*X.shape[:2], X.shape[1])
    for i in range(0, X.shape[1], _STRIP):  # eigh reads the lower triangle only
        gram[:, i:, i : i + _STRIP] = X[:, i:] @ X[:, i : i + _STRIP].mT
    energies, vectors = torch.linalg.eigh(gram)
    return energies.clamp_min(0).sqrt().flip(-1), vectors.flip(-1)


def _safe(t: float, slack: torch.Tensor) -> torch.Tensor:
    """The largest singular value that allows squaring: one of size t then has an error of at most `slack`."""
    return (2 * t * slack / torch.finfo(slack.dtype).eps).sqrt()


def _kept(sigma: torch.Tensor, t: float) -> torch.Tensor:
    """The share of each singular value that remains after shrinking; a zero one gives -inf, hence 0."""
    return (1 - t / sigma).clamp_min(0)


def _leading(sigma: torch.Tensor, vectors: torch.Tensor, t: float, safe: torch.Tensor) -> torch.Tensor | None:
    """The block Q [b, p, s] to track: all singular vectors that may pass the next threshold, or, if these are many, all
    that must not be squared; None if these are many too."""
    most = vectors.shape[-2] // 6  # if it is wider, tracking costs more than it saves
    for limit in (0.5 * t, 0.5 * safe):
        size = int((sigma > limit).sum(-1).max()) + _SPARE
        if size <= most:
            columns = sigma.topk(size).indices[:, None, :].expand(-1, vectors.shape[-2], -1)
            return vectors.gather(-1, columns)
    return None


def _shrink_spectrum(
    X: torch.Tensor, t: float, basis: torch.Tensor | None, slack: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """SVT(X, t) and the block to track next."""
    safe = _safe(t, slack)
    exact = bool((safe >= 1).all())  # ||X||_2 is about 1
    if basis is not None:
        exact, few, basis, rows, sigma = _follow(X, t, basis, safe, slack)
        low = (basis * _kept(sigma, t)[:, None, :]) @ rows
        if exact and few:
            return low, basis
        if exact:
            rest = X - basis @ rows
            sigmas, vectors = _spectrum(rest)
            low += _shrink(rest, sigmas, vectors, t)
            return low, _leading(torch.cat((sigma, sigmas), -1), torch.cat((basis, vectors), -1), t, safe)
    sigmas, vectors = (x.to(X.dtype) for x in _spectrum(X if exact else X.to(torch.float64)))
    return _shrink(X, sigmas, vectors, t), _leading(sigmas, vectors, t, safe)


def _shrink(X: torch.Tensor, sigma: torch.Tensor, vectors: torch.Tensor, t: float) -> torch.Tensor:
    """SVT(X, t) from the singular values and left singular vectors of X."""
    rank = int((sigma > t).sum(-1).max())
    left = vectors[:, :, :rank]
    return (left * _kept(sigma[:, None, :rank], t)) @ (left.mT @ X)


@functools.cache
def _noise(size: int) -> torch.Tensor:
    """f64 [size, 4], the same for all matrices and iterations."""
    return torch.from_numpy(uniform(philox(0, range(size), Draw.PURSUIT, 0)) - 0.5)


def _follow(
    X: torch.Tensor, t: float, basis: torch.Tensor, safe: torch.Tensor, slack: torch.Tensor
) -> tuple[bool, bool, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ways 1 and 2: whether the needed columns are exact, whether way 1 suffices, the columns Q [b, p, s], their rows B
    and the lengths [b, s]. In way 2, columns that are not needed are zero."""
    noise = _noise(X.shape[1]).to(X).expand(len(X), -1, -1)
    basis = torch.linalg.qr(torch.cat((basis[:, :, : -noise.shape[-1]], noise), -1)).Q
    for step in range(_MOST_STEPS):
        rows = basis.mT @ X
        wide = rows.to(torch.float64)
        energies, turn = torch.linalg.eigh(wide @ wide.mT)
        energies, turn = energies.clamp_min(0).flip(-1).to(X.dtype), turn.flip(-1).to(X.dtype)
        basis, rows, sigma = basis @ turn, turn.mT @ rows, energies.sqrt()
        few = step < _MOST_STEPS // 2 and bool((sigma[:, -_SPARE + 2] < _NEAR * t).all())  # otherwise try way 2
        wanted = sigma > _NEAR * (t if few else safe)
        pulled = (rows @ X.mT).mT  # X B^T = Q diag(sigma^2) + R B^T
        mixed = torch.where(wanted, 1 / sigma, 0)[:, None, :] * (pulled - basis * energies[:, None, :])
        exact = bool((torch.linalg.matrix_norm(mixed)[:, None] <= slack).all())
        if exact and step > 0:  # before the first step the noise has not been multiplied by X
            break
        basis = torch.linalg.qr(pulled).Q
    if not few:
        exact = exact and bool((sigma[:, -1:] <= safe).all())
        basis, sigma = basis * wanted[:, None, :], sigma * wanted
    return exact, few, basis, rows, sigma
