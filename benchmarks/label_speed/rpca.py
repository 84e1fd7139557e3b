"""Principal component pursuit, batched (`dcpipe.compression.pursuit`), against one full SVD an iteration and image.

The same matrices in fp32, constants and stopping rule both ways, K = 300 views of C = 1000 and C = 200 classes.
Two kinds: `clean`, of rank 5 with outliers in one entry of fifty, and `noisy`, the same with dense noise, where L ends
with more than half of the full rank. Eight images the one way and then the same eight the other, on one thread; the
ratio is the median over the eights. On a CPU times are those of the process, which on one thread are those of the
clock of an idle machine, so that a shared machine does not decide the ratio. How far L is from that of full SVDs,
||difference||_F / ||L||_F, is printed, and the share of entries that are zero in only one S.

Beside it `pyrpca` on a few of the matrices, in fp32 to the same tolerance. It updates L before S and takes the largest
row sum of |M| for the dual's start where the paper has the largest entry, so its parts differ a little more.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from dcpipe.compression.pursuit import pursue
from label_speed import Setting, made_labels, seconds

TOLERANCE, TOGETHER = 1e-5, 8
Parts = tuple[torch.Tensor, torch.Tensor]  # L and S
PEERS = 2  # matrices of each kind that pyrpca gets


def by_svd(matrices: torch.Tensor, lam: float) -> Parts:
    """The textbook: image by image, a full SVD an iteration."""
    pairs = [_one_by_svd(matrix, lam) for matrix in matrices]
    return torch.stack([low for low, _ in pairs]), torch.stack([sparse for _, sparse in pairs])


def _one_by_svd(M: torch.Tensor, lam: float) -> Parts:
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


class Stopwatch:
    """Seconds of calls: of the process on a CPU, of the wall on a device that works beside it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def of(self, work: Callable[[], Parts]) -> tuple[float, Parts]:
        """Seconds, and what the call gave."""
        found: list[Parts] = []
        started = time.process_time()
        wall = seconds(lambda: found.append(work()), self.device)
        return wall if self.device.type == "cuda" else time.process_time() - started, found[0]


def compare(setting: Setting, images: int, n_views: int, classes: int, noise: float) -> str:
    """One line: milliseconds an image both ways, their ratio, and how the parts agree."""
    progress, lam = Stopwatch(setting.device), max(n_views, classes) ** -0.5
    slow, fast, worst, differing = [], [], 0.0, 0.0
    for start in range(0, images, TOGETHER):
        size = min(TOGETHER, images - start)
        matrices = made_labels(size, n_views, classes, noise, seed=start).to(setting.device)
        duration, (expected, expected_sparse) = progress.of(partial(by_svd, matrices, lam))
        slow.append(duration / size)
        duration, (low, sparse) = progress.of(partial(pursue, matrices, lam=lam, tolerance=TOLERANCE))
        fast.append(duration / size)
        worst = max(worst, float(((low - expected).norm(dim=(1, 2)) / expected.norm(dim=(1, 2))).max()))
        differing += float(((sparse != 0) != (expected_sparse != 0)).sum())
    rank = int(torch.linalg.matrix_rank(expected[0].double(), rtol=1e-5))
    return (
        f"  {images} x {n_views} x {classes:4d} {_kind(noise)}, L of rank {rank:3d}: "
        f"full SVD {1e3 * statistics.median(slow):6.1f} ms an image, pursue {1e3 * statistics.median(fast):6.1f}; "
        f"ratio {statistics.median(a / b for a, b in zip(slow, fast, strict=True)):4.1f}; L differs by {worst:.1e} at "
        f"most, the support of S in {differing / matrices[0].numel() / images:.1e} of the entries"
    )


def beside_pyrpca(setting: Setting, n_views: int, classes: int, noise: float) -> str:
    """One line: the same against `pyrpca`."""
    try:
        from pyrpca import rpca_pcp_ialm
    except ImportError:
        return "  pyrpca is not installed"
    progress, lam = Stopwatch(setting.device), max(n_views, classes) ** -0.5
    matrices = made_labels(PEERS, n_views, classes, noise, seed=0)
    started = time.process_time()
    theirs = [rpca_pcp_ialm(matrix.numpy(), lam, tol=TOLERANCE, verbose=False)[0] for matrix in matrices]
    slow = time.process_time() - started
    fast, (low, _) = progress.of(partial(pursue, matrices.to(setting.device), lam=lam, tolerance=TOLERANCE))
    expected = torch.stack([torch.from_numpy(part) for part in theirs])
    worst = float(((low.cpu() - expected).norm(dim=(1, 2)) / expected.norm(dim=(1, 2))).max())
    return (
        f"  {PEERS} x {n_views} x {classes:4d} {_kind(noise)}: pyrpca {1e3 * slow / PEERS:6.1f} ms an image, "
        f"pursue {1e3 * fast / PEERS:6.1f}; ratio {slow / fast:4.1f}; L differs by {worst:.1e} at most"
    )


def _kind(noise: float) -> str:
    return "noisy" if noise else "clean"


def section(setting: Setting) -> None:
    """Print all lines."""
    print(f"RPCA to {TOLERANCE:.0e}, in fp32")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images, n_views, sizes = (8, 40, (60, 30)) if setting.quick else (64, 300, (1000, 200))
    warm = made_labels(1, n_views, sizes[-1], 0.3, 0).to(setting.device)
    by_svd(warm, 0.1), pursue(warm, lam=0.1, tolerance=TOLERANCE)
    cases = [(classes, noise) for classes in sizes for noise in (0.0, 0.3)]
    for case in cases:
        print(compare(setting, images, n_views, *case), flush=True)
    for case in cases:
        print(beside_pyrpca(setting, n_views, *case), flush=True)
    torch.set_num_threads(threads)
