"""Claim: pursuing all images in one batch through float64 Gram matrices beats one full SVD an iteration and image.

`python benchmarks/compression.py`: the same matrices, iterations and tolerance both ways, at Tiny-ImageNet's size
(K = 300, C = 200), alternating so that a busy machine slows both; prints the best times, their ratio and how far the
two answers differ. About a minute on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dcpipe.compression.rpca import pursue

IMAGES, VIEWS, CLASSES, REPEATS = 4, 300, 200, 3
LAM, TOLERANCE = VIEWS**-0.5, 1e-5


def labels() -> torch.Tensor:
    """f32 [n, K, c]: rank 5, outliers in one entry of fifty and dense noise, as in teachers' logits."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(IMAGES, *shape, generator=generator)

    outliers = 8 * normal(VIEWS, CLASSES) * (torch.rand(IMAGES, VIEWS, CLASSES, generator=generator) < 0.02)
    return 3 * normal(VIEWS, 5) @ normal(5, CLASSES) + outliers + 0.3 * normal(VIEWS, CLASSES)


def by_svd(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The textbook: image by image, a full SVD an iteration."""
    pairs = [_one_by_svd(matrix) for matrix in matrices]
    return torch.stack([low for low, _ in pairs]), torch.stack([sparse for _, sparse in pairs])


def _one_by_svd(M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    spectral = torch.linalg.matrix_norm(M, 2)
    Y = M / torch.maximum(spectral, M.abs().max() / LAM)
    L, mu, limit = torch.zeros_like(M), 1.25 / spectral, 1.25e7 / spectral
    while True:
        S = torch.nn.functional.softshrink(M - L + Y / mu, float(LAM / mu))
        u, sigma, v = torch.linalg.svd(M - S + Y / mu, full_matrices=False)
        L = (u * (sigma - 1 / mu).clamp_min(0)) @ v
        Z = M - L - S
        Y = Y + mu * Z
        mu = torch.minimum(1.5 * mu, limit)
        if Z.norm() <= TOLERANCE * M.norm():
            return L, S


def seconds(
    run: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], matrices: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Wall time and the low-rank part."""
    start = time.perf_counter()
    low, _ = run(matrices)
    return time.perf_counter() - start, low


def main() -> None:
    torch.set_num_threads(2)
    matrices = labels()
    svd_times, gram_times, difference = [], [], 0.0
    for _ in range(REPEATS):
        took, expected = seconds(by_svd, matrices)
        svd_times.append(took)
        took, found = seconds(lambda m: pursue(m, lam=LAM, tolerance=TOLERANCE), matrices)
        gram_times.append(took)
        difference = float((found - expected).norm() / expected.norm())
    slow, fast = (1e3 * min(times) / IMAGES for times in (svd_times, gram_times))
    print(f"full SVD, image by image  {slow:8.1f} ms an image")
    print(f"Gram matrices, batched    {fast:8.1f} ms an image")
    print(f"ratio {slow / fast:.2f}; relative difference of L {difference:.1e}")


if __name__ == "__main__":
    main()
