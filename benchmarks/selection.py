"""What SCORE's selection costs: `python benchmarks/selection.py [--quick]`.

1. Against a determinant for every candidate (Eq. 4 and 5 by definition), one class of ImageNet-1K's size: both run
   here, the reference on a sample of steps from the same picks, its total extrapolated and labelled so. The sampled
   steps must choose the same images.
2. Growth with the number of classes. A pick gets dearer until 0.62 d vectors are picked (the n x n form) and costs the
   same from there on (the d x d form), so the total grows faster than linearly at first, then linearly.

Features are synthetic (a low-rank part and noise): cost does not depend on their values.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import torch

from dcpipe.selection import Candidates, Picks, Watch
from dcpipe.selection.score import score

EPS2 = 0.5
DIMENSIONS = 512
CANDIDATES = 1281


def made(n_classes: int, n: int, d: int) -> Candidates:
    """Candidates whose classes each lie near a subspace of 40 dimensions."""
    rng = np.random.Generator(np.random.Philox(n_classes))
    blocks = [
        rng.standard_normal((n, 40)) @ rng.standard_normal((40, d)) / 6 + rng.standard_normal((n, d)) / 2 + 1
        for _ in range(n_classes)
    ]
    offsets = np.arange(n_classes + 1, dtype=np.int64) * n
    logits = np.zeros((n_classes * n, 1), dtype=np.float32)
    return Candidates(np.concatenate(blocks).astype(np.float32), logits, rng.random(n_classes * n), offsets)


def by_determinant(z: np.ndarray, picked: list[int], alpha: float, beta: float, label_rate: np.ndarray) -> int:
    """The next pick of a single class, one determinant a candidate (for one class R_D is R_I: one serves both)."""
    d, n = z.shape[1], len(picked) + 1
    scatter = z[picked].T @ z[picked]
    best, choice = -np.inf, -1
    for row in range(len(z)):
        if row not in picked:
            rate = np.linalg.slogdet(np.eye(d) + d / (n * EPS2) * (scatter + np.outer(z[row], z[row])))[1] / 2
            value = rate - alpha * rate - beta * label_rate[row]
            if value > best:
                best, choice = value, row
    return choice


def against_determinants(n: int, ipc: int, sample: list[int], alpha: float, beta: float) -> None:
    candidates = made(1, n, DIMENSIONS)
    start = time.perf_counter()
    picks = score(candidates, ipc, 0, Watch(), alpha=alpha, beta=beta, eps2=EPS2)
    ours = time.perf_counter() - start
    z = np.asarray(candidates.vectors, dtype=np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    start = time.perf_counter()
    for step in sample:
        choice = by_determinant(z, picks.rows[:step].tolist(), alpha, beta, candidates.label_rate)
        if choice != picks.rows[step]:
            raise SystemExit(f"step {step}: SCORE picked row {picks.rows[step]}, the determinants {choice}")
    theirs = (time.perf_counter() - start) / len(sample) * ipc
    print(f"one class, {n} candidates, d = {DIMENSIONS}, {ipc} picks, alpha = {alpha}, beta = {beta}")
    print(f"  score                            {ours:9.3f} s")
    print(f"  a determinant for each candidate {theirs:9.1f} s, extrapolated from steps {sample}")
    print(f"  ratio                            {theirs / ours:9.0f}, picks of the sampled steps identical")


def growth(counts: list[int], ipc: int, n: int) -> None:
    print(f"growth with classes: {n} candidates each, d = {DIMENSIONS}, ipc = {ipc}")
    for precision in ("float64", "float32"):
        before = 0.0
        for n_classes in counts:
            candidates = made(n_classes, n, DIMENSIONS)
            rounds = [time.perf_counter()]

            def tick(picks: Picks, rounds: list[float] = rounds) -> None:
                rounds.append(time.perf_counter())

            score(candidates, ipc, 0, Watch(report=tick), eps2=EPS2, precision=precision)
            total, last = rounds[-1] - rounds[0], (rounds[-1] - rounds[-2]) / n_classes
            ratio = f", x{total / before:.2f}" if before else ""
            print(
                f"  {precision} {n_classes:4d} classes {total:8.2f} s{ratio}; "
                f"{1e3 * total / (ipc * n_classes):.2f} ms a pick, {1e3 * last:.2f} ms in the last round"
            )
            before = total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that the script works")
    quick = parser.parse_args().quick
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}")
    n = 100 if quick else CANDIDATES
    score(made(1, 50, DIMENSIONS), 40, 0, Watch())  # threads and libraries start here, not in what is timed
    against_determinants(n, 50, [40] if quick else [1, 12, 49], alpha=0.0, beta=0.0)
    against_determinants(n, 50, [40] if quick else [30], alpha=0.1, beta=0.1)
    growth([2, 4] if quick else [10, 20, 40], 10, n)


if __name__ == "__main__":
    main()
