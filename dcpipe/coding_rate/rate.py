"""logdet(I + c G) of a scatter matrix G = Z^T Z, and what each candidate would add to it.

By the determinant lemma logdet(I + c G + c z z^T) = logdet(I + c G) + log(1 + c z^T (I + c G)^-1 z). With the factor
L L^T = I / c + G the quadratic form is |L^-1 z|^2: one Cholesky and one triangular solve for all candidates. For n
vectors in d > n dimensions the Woodbury identity moves the work to their n x n Gram matrix:
z^T (I + c G)^-1 z = z^T z - k^T (I / c + Z Z^T)^-1 k with k = Z z. Factors only, no inverse and no LU.
"""

from __future__ import annotations

import math

import torch


def more_by_dimension(scatter: torch.Tensor, x: torch.Tensor, c: float) -> tuple[float, torch.Tensor]:
    """logdet(I + c G), and log(1 + c z^T (I + c G)^-1 z) for each row z of `x` [N, d]: [N]; `scatter` G [d, d]."""
    factor = _factor(scatter, c)
    white = torch.linalg.solve_triangular(factor, x.T, upper=False)
    return _logdet(factor, c), torch.log1p(white.square().sum(dim=0))


def more_by_sample(z: torch.Tensor, x: torch.Tensor, c: float) -> tuple[float, torch.Tensor]:
    """As `more_by_dimension` for G = Z^T Z of the few rows `z` [n, d]; n may be 0."""
    factor = _factor(z @ z.T, c)
    explained = torch.linalg.solve_triangular(factor, z @ x.T, upper=False).square().sum(dim=0)
    # Of a vector in the span of Z little is left, and round-off may make it negative.
    left = (x.square().sum(dim=1) - explained).clamp_min(0.0)
    return _logdet(factor, c), torch.log1p(c * left)


def sample_form_is_cheaper(n: int, d: int, candidates: int) -> bool:
    """Whether `more_by_sample` takes fewer multiply-adds than `more_by_dimension`; never beyond n = 0.62 d."""
    by_sample = n**3 / 3 + n * n * d + candidates * n * (n + d)
    return by_sample < d**3 / 3 + candidates * d * d


def logdet(z: torch.Tensor, c: float) -> float:
    """logdet(I + c Z^T Z) of the few rows `z` [n, d]."""
    return _logdet(_factor(z @ z.T, c), c)


def _factor(gram: torch.Tensor, c: float) -> torch.Tensor:
    """The lower Cholesky factor of I / c + gram."""
    factor: torch.Tensor = torch.linalg.cholesky(gram + torch.eye(len(gram), dtype=gram.dtype, device=gram.device) / c)
    return factor


def _logdet(factor: torch.Tensor, c: float) -> float:
    """logdet(I + c A) from the factor of I / c + A."""
    return len(factor) * math.log(c) + 2.0 * float(factor.diagonal().double().log().sum())
