"""Claim: batched pursuit (`dcpipe.compression.pursuit`) beats one full SVD an iteration and image, with the same parts.

`OMP_NUM_THREADS=1 python benchmarks/compression.py [--images 64]`: the same matrices in fp32, constants and stopping
rule both ways, K = 300 views of C = 1000 and C = 200 classes. Two kinds: `clean`, of rank 5 with outliers in one entry
of fifty, and `noisy`, the same with dense noise, where L ends with more than half of the full rank. Both ways run on
one thread, eight images the one way and then the same eight the other. Times are CPU seconds of the process, which on
one thread are those of the clock of an idle machine, so that a shared machine does not decide the ratio. Also prints
how far L is from that of full SVDs, ||difference||_F / ||L||_F, and the share of entries that are zero in only one S.
"""

from __future__ import annotations

import argparse
import time

import torch

from dcpipe.compression.pursuit import pursue

VIEWS, TOLERANCE, TOGETHER = 300, 1e-5, 8


def labels(images: int, classes: int, noise: float, seed: int) -> torch.Tensor:
    """f32 [n, K, c]: rank 5, outliers in one entry of fifty and dense noise, as in teachers' logits."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(images, *shape, generator=generator)

    outliers = 8 * normal(VIEWS, classes) * (torch.rand(images, VIEWS, classes, generator=generator) < 0.02)
    return 3 * normal(VIEWS, 5) @ normal(5, classes) + outliers + noise * normal(VIEWS, classes)


def by_svd(matrices: torch.Tensor, lam: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The textbook: image by image, a full SVD an iteration."""
    pairs = [_one_by_svd(matrix, lam) for matrix in matrices]
    return torch.stack([low for low, _ in pairs]), torch.stack([sparse for _, sparse in pairs])


def _one_by_svd(M: torch.Tensor, lam: float) -> tuple[torch.Tensor, torch.Tensor]:
    spectral = torch.linalg.matrix_norm(M, 2)
    Y = M / torch.maximum(spectral, M.abs().max() / lam)
    L, mu, limit = torch.zeros_like(M), 1.25 / spectral, 1.25e7 / spectral
    while True:
        S = torch.nn.functional.softshrink(M - L + Y / mu, float(lam / mu))
        u, sigma, v = torch.linalg.svd(M - S + Y / mu, full_matrices=False)
        L = (u * (sigma - 1 / mu).clamp_min(0)) @ v
        Z = M - L - S
        Y = Y + mu * Z
        mu = torch.minimum(1.5 * mu, limit)
        if Z.norm() <= TOLERANCE * M.norm():
            return L, S


def compare(images: int, classes: int, noise: float) -> str:
    """One line: milliseconds an image both ways, their ratio, and how the parts agree."""
    lam = max(VIEWS, classes) ** -0.5
    slow = fast = worst = differing = 0.0
    for start in range(0, images, TOGETHER):
        matrices = labels(min(TOGETHER, images - start), classes, noise, seed=start)
        before = time.process_time()
        expected, expected_sparse = by_svd(matrices, lam)
        between = time.process_time()
        low, sparse = pursue(matrices, lam=lam, tolerance=TOLERANCE)
        after = time.process_time()
        slow, fast = slow + between - before, fast + after - between
        worst = max(worst, float(((low - expected).norm(dim=(1, 2)) / expected.norm(dim=(1, 2))).max()))
        differing += float(((sparse != 0) != (expected_sparse != 0)).sum())
    rank = int(torch.linalg.matrix_rank(expected[0].double(), rtol=1e-5))
    return (
        f"{images} x {VIEWS} x {classes:4d} {'noisy' if noise else 'clean'}, L of rank {rank:3d}: "
        f"full SVD {1e3 * slow / images:6.1f} ms an image, pursue {1e3 * fast / images:6.1f}; "
        f"ratio {slow / fast:4.1f}; L differs by {worst:.1e} at most, "
        f"the support of S in {differing / matrices[0].numel() / images:.1e} of the entries"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    by_svd(labels(1, 200, 0.0, 0), 0.1), pursue(labels(1, 200, 0.0, 0), lam=0.1, tolerance=TOLERANCE)  # warm up
    for classes in (1000, 200):
        for noise in (0.0, 0.3):
            print(compare(arguments.images, classes, noise), flush=True)


if __name__ == "__main__":
    main()
