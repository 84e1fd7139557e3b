"""Exact greedy coding-rate selection: against a determinant per candidate, against a peer, and at ImageNet-1K's size.

1. `logdet(I + c (G + z z^T))` by `slogdet`, one d x d matrix a candidate, is the naive way; SCORE's selector takes one
   Cholesky and one triangular solve for all candidates of a step. For one class of ImageNet-1K's size: both run
   here, the reference on a sample of steps from the same picks, its total extrapolated and labelled so. The sampled
   steps must choose the same images.
2. With the coefficient held fixed and one class, R_I alone is what `submodlib-py` (LogDeterminant; Chen, Zhang and
   Zhou, NeurIPS 2018) maximises; where it is not installed, the same algorithm in NumPy stands in. A small bonus on
   the first row breaks the tie of the first step alike for all.
3. Growth with the number of classes, candidates and ipc. A pick gets dearer until 0.62 d vectors are picked (the n x n
   form) and costs the same from there on (the d x d form), so the total grows faster than linearly at first, then
   linearly.
4. ImageNet-1K's size (`--imagenet`): 1,000 classes of 1,281 candidates in a memory-mapped file, made class by class.
   Time at ipc 10 and 50 (one is a prefix of the other) and the peak of anonymous memory, which leaves the mapped
   file out. `--device cuda` does it on a GPU.

Features are synthetic (a low-rank part and noise): cost does not depend on their values.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from dcpipe.selection import Candidates, Picks, Progress, unit
from dcpipe.selection.score import score

EPS2 = 0.5
DIMENSIONS = 512
CANDIDATES = 1281


def block(label: int, n: int, d: int) -> np.ndarray:
    """Candidates of one class f32 [n, d], near a subspace of 40 dimensions of its own."""
    rng = np.random.Generator(np.random.Philox(label))
    basis = rng.standard_normal((40, d), dtype=np.float32) / 6
    return (
        rng.standard_normal((n, 40), dtype=np.float32) @ basis + rng.standard_normal((n, d), dtype=np.float32) / 2 + 1
    )


def made(n_classes: int, n: int, d: int) -> Candidates:
    """Candidates of a few classes, in memory."""
    vectors = np.concatenate([block(label, n, d) for label in range(n_classes)])
    return around(vectors, n_classes, n)


def around(vectors: np.ndarray, n_classes: int, n: int) -> Candidates:
    offsets = np.arange(n_classes + 1, dtype=np.int64) * n
    rates = np.random.Generator(np.random.Philox(7)).random(n_classes * n)
    return Candidates(vectors, np.zeros((n_classes * n, 1), dtype=np.float32), rates, offsets)


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
    picks = score(candidates, ipc, 0, Progress(), alpha=alpha, beta=beta, eps2=EPS2)
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


def chen(kernel: np.ndarray, picks: int) -> list[int]:
    """Fast greedy MAP of a determinantal point process: one row of the Cholesky factor a pick, O(n N) each."""
    left, factor, rows = kernel.diagonal().copy(), np.zeros((0, len(kernel))), []
    for _ in range(picks):
        rows.append(int(left.argmax()))
        row = (kernel[rows[-1]] - factor[:, rows[-1]] @ factor) / np.sqrt(left[rows[-1]])
        factor = np.vstack([factor, row])
        left = left - row**2
        left[rows] = -np.inf
    return rows


def submodlib(kernel: np.ndarray, picks: int) -> list[int]:
    """The peer's picks; `against_peers` has imported it already."""
    from submodlib import LogDeterminantFunction

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        function = LogDeterminantFunction(n=len(kernel), mode="dense", lambdaVal=0.0, sijs=kernel)
        chosen = function.maximize(
            budget=picks,
            optimizer="NaiveGreedy",
            stopIfZeroGain=False,
            stopIfNegativeGain=False,
            show_progress=False,
        )
    return [row for row, _ in chosen]


def installed() -> bool:
    """Import the peer, which takes seconds, before anything is timed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import submodlib  # noqa: F401
        except ImportError:
            return False
    return True


def against_peers(n: int, ipc: int) -> None:
    """R_I with a fixed coefficient, one class."""
    candidates = made(1, n, DIMENSIONS)
    candidates.label_rate[:] = 1.0
    candidates.label_rate[0] = 0.0  # the bonus of row 0 that all get, here through beta
    bonus = 1e-4
    print(f"one class, {n} candidates, d = {DIMENSIONS}, {ipc} picks, fixed coefficient, alpha = 0")
    start = time.perf_counter()
    picks = score(candidates, ipc, 0, Progress(), alpha=0.0, beta=bonus, eps2=EPS2, coefficient="final")
    ours = time.perf_counter() - start
    print(f"  score, coefficient: final        {ours:9.3f} s")
    for name, peer in (("submodlib-py, NaiveGreedy", submodlib), ("Chen et al. in NumPy", chen)):
        if peer is submodlib and not installed():
            print(f"  {name:32s}   not installed")
            continue
        start = time.perf_counter()
        z = unit(np.asarray(candidates.vectors, dtype=np.float64))
        kernel = z @ z.T + np.eye(n) * (ipc * EPS2 / DIMENSIONS)
        kernel[0, 0] *= 1 + 2 * bonus
        rows = peer(kernel, ipc)
        theirs = time.perf_counter() - start
        same = "identical" if rows == picks.rows.tolist() else f"{len(set(rows) & set(picks.rows.tolist()))} shared"
        print(f"  {name:32s} {theirs:9.3f} s with its kernel; ratio {theirs / ours:.2f}, picks {same}")


def growth(what: str, cases: list[tuple[int, int, int]]) -> None:
    """Total time over (classes, candidates of each, ipc)."""
    print(f"growth with {what}: d = {DIMENSIONS}")
    for precision in ("float64", "float32"):
        before = 0.0
        for n_classes, n, ipc in cases:
            candidates = made(n_classes, n, DIMENSIONS)
            rounds = [time.perf_counter()]

            def tick(picks: Picks, rounds: list[float] = rounds) -> None:
                rounds.append(time.perf_counter())

            score(candidates, ipc, 0, Progress(report=tick), eps2=EPS2, precision=precision)
            total, last = rounds[-1] - rounds[0], (rounds[-1] - rounds[-2]) / n_classes
            ratio = f", x{total / before:.2f}" if before else ""
            print(
                f"  {precision} {n_classes:4d} classes of {n:5d}, ipc {ipc:3d} {total:8.2f} s{ratio}; "
                f"{1e3 * total / (ipc * n_classes):.2f} ms a pick, {1e3 * last:.2f} ms in the last round"
            )
            before = total


class AnonymousPeak:
    """The largest anonymous memory of the process while the block runs, in bytes above what it began with."""

    def __enter__(self) -> AnonymousPeak:
        self.start, self.peak, self.over = self._now(), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(0.1):
            self.peak = max(self.peak, self._now() - self.start)

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def imagenet(n_classes: int, n: int, ipc: int, device: str, precision: str) -> None:
    """The whole run, features memory-mapped."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_classes * n, DIMENSIONS))
        for label in range(n_classes):
            out[label * n : (label + 1) * n] = block(label, n, DIMENSIONS)
        out.flush()
        del out
        candidates = around(np.load(path, mmap_mode="r"), n_classes, n)
        start, rounds = time.perf_counter(), []

        def tick(picks: Picks) -> None:
            rounds.append(time.perf_counter() - start)
            if len(rounds) % 10 == 0:
                print(f"  ... {len(rounds)} images a class after {rounds[-1]:.1f} s", flush=True)

        print(f"{n_classes} classes of {n}, d = {DIMENSIONS}, ipc {ipc}, {precision}, {device}")
        with AnonymousPeak() as memory:
            score(candidates, ipc, 0, Progress(report=tick), eps2=EPS2, precision=precision, device=device)
        for k in sorted({min(10, ipc), ipc}):
            print(f"  ipc {k:3d}: {rounds[k - 1]:8.1f} s, {1e3 * rounds[k - 1] / (k * n_classes):.2f} ms a pick")
        print(
            f"  peak memory beyond the memory-mapped {path.stat().st_size / 1e9:.2f} GB: {memory.peak / 2**30:.2f} GiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that the script works")
    parser.add_argument(
        "--imagenet", action="store_true", help="only the run of ImageNet-1K's size (minutes, 2.6 GB disk)"
    )
    parser.add_argument("--precision", default="float64", help="of the ImageNet-1K run: float64 or float32")
    parser.add_argument("--device", default="cpu", help="of the ImageNet-1K run")
    arguments = parser.parse_args()
    quick = arguments.quick
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}")
    if arguments.imagenet:
        classes, n, ipc = (12, 100, 3) if quick else (1000, CANDIDATES, 50)
        imagenet(classes, n, ipc, arguments.device, arguments.precision)
        return
    n = 100 if quick else CANDIDATES
    score(made(1, 50, DIMENSIONS), 40, 0, Progress())  # threads and libraries start here, not in what is timed
    against_determinants(n, 50, [40] if quick else [1, 12, 49], alpha=0.0, beta=0.0)
    against_determinants(n, 50, [40] if quick else [30], alpha=0.1, beta=0.1)
    against_peers(n, 50)
    growth("classes", [(c, n, 10) for c in ([2, 4] if quick else [10, 20, 40, 80])])
    growth("candidates", [(10, m, 10) for m in ([50, 100] if quick else [640, 1281, 2562])])
    growth("ipc", [(10, n, k) for k in ([2, 4] if quick else [10, 20, 40, 80])])


if __name__ == "__main__":
    main()
