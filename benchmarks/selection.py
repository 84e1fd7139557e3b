"""Exact greedy coding-rate selection: against the good ways to do it in NumPy and a peer, and at ImageNet-1K's size.

1. R_I with its growing coefficient and one class, exact: against eight lines of NumPy (`by_products`: the Woodbury
   identity with the products of candidates and picks kept, one matrix-vector product a pick). Both start from the same
   float32 vectors, are run in turn, and must make the same picks. As a footnote, one `slogdet` for each candidate,
   extrapolated from one step.
2. With several classes, against one Cholesky factor and one triangular solution per step in SciPy (`by_cholesky`), the
   good way for any number of picks.
3. With the coefficient held fixed and one class, R_I alone is what `submodlib-py` (LogDeterminant; Chen, Zhang and
   Zhou, NeurIPS 2018) maximises; where it is not installed, the same algorithm in NumPy stands in. A small bonus on
   the first row breaks the tie of the first step alike for all.
4. Growth with the number of classes, candidates and ipc.
5. ImageNet-1K's size (`--imagenet`): 1,000 classes of 1,281 candidates in a memory-mapped file, made class by class.
   Time at ipc 10 and 50 (one is a prefix of the other) and the peak of anonymous memory, which leaves the mapped
   file out. `--classes` takes a proportional part of it, `--device cuda` does it on a GPU.

Features are synthetic (a low-rank part and noise), and R_C has the spread measured for softmax at T = 20, 3e-4 nats.
Times are those of the process, medians of runs in turn. The cost depends on the values: candidates whose upper bound is
below the best are not evaluated.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
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
    rates = 0.55 + 3e-4 * np.random.Generator(np.random.Philox(7)).standard_normal(n_classes * n)
    return Candidates(vectors, np.zeros((n_classes * n, 1), dtype=np.float32), rates, offsets)


def by_products(vectors: np.ndarray, ipc: int) -> list[int]:
    """The eight lines for one class: z^T (gamma I + G)^-1 z = (1 - k^T (gamma I + K)^-1 k) / gamma."""
    z = vectors.astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    rows, products = [], np.zeros((len(z), 0))
    for n in range(1, ipc + 1):
        inner = np.linalg.inv(products[rows] + n * EPS2 / z.shape[1] * np.eye(n - 1))
        left = 1 - np.einsum("ij,ij->i", products @ inner, products)
        left[rows] = -1
        rows.append(int(left.argmax()))
        products = np.column_stack([products, z @ z[rows[-1]]])
    return rows


def by_cholesky(candidates: Candidates, ipc: int) -> list[int]:
    """R_I of several classes in turn: a Cholesky factor per step and a triangular solution for the class."""
    z = unit(np.asarray(candidates.vectors, dtype=np.float64))
    d, rows, scatter = z.shape[1], [], np.zeros((z.shape[1], z.shape[1]))
    for n in range(1, ipc * candidates.n_classes + 1):
        own = candidates.rows((n - 1) % candidates.n_classes)
        factor = scipy.linalg.cholesky(scatter + n * EPS2 / d * np.eye(d), lower=True)
        gains = np.square(scipy.linalg.solve_triangular(factor, z[own].T, lower=True)).sum(axis=0)
        gains[[row - own.start for row in rows if own.start <= row < own.stop]] = -1
        rows.append(own.start + int(np.round(gains, 9).argmax()))  # all tie in the first step
        scatter += np.outer(z[rows[-1]], z[rows[-1]])
    return rows


def in_turn(ways: dict[str, Callable[[], Any]], times: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Median process time of each way in seconds, and its result, from runs in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(times):
        for name, way in ways.items():
            start = time.process_time()
            results[name] = way()
            taken[name].append(time.process_time() - start)
    return {name: float(np.median(some)) for name, some in taken.items()}, results


def against_numpy(n: int, ipc: int, times: int) -> None:
    candidates = made(1, n, DIMENSIONS)
    candidates.label_rate[:] = 0.0
    ours = partial(score, candidates, ipc, 0, Progress(), alpha=0.0, beta=0.0, eps2=EPS2)
    ways = {"score": ours, "eight lines of NumPy": partial(by_products, candidates.vectors, ipc)}
    taken, results = in_turn(ways, times)
    rows = results["score"].rows.tolist()
    if rows != results["eight lines of NumPy"]:
        raise SystemExit("the picks of the two ways differ")
    z = unit(np.asarray(candidates.vectors, dtype=np.float64))
    scatter, step, start = z[rows[: ipc // 2]].T @ z[rows[: ipc // 2]], ipc // 2 + 1, time.process_time()
    for row in z[:: max(1, n // 20)]:
        np.linalg.slogdet(np.eye(DIMENSIONS) + DIMENSIONS / (step * EPS2) * (scatter + np.outer(row, row)))
    each = (time.process_time() - start) / len(z[:: max(1, n // 20)])
    print(f"one class, {n} candidates, d = {DIMENSIONS}, {ipc} picks, growing coefficient, alpha = 0")
    for name, seconds in taken.items():
        print(f"  {name:32s} {seconds:9.3f} s, ratio {seconds / taken['score']:.2f}")
    print(f"  (a slogdet for each candidate    {each * n * ipc:9.1f} s, extrapolated)")


def against_cholesky(n_classes: int, n: int, ipc: int, times: int) -> None:
    candidates = made(n_classes, n, DIMENSIONS)
    candidates.label_rate[:] = 0.0
    ours = partial(score, candidates, ipc, 0, Progress(), alpha=0.0, beta=0.0, eps2=EPS2)
    ways = {"score": ours, "Cholesky and solution in SciPy": partial(by_cholesky, candidates, ipc)}
    taken, results = in_turn(ways, times)
    if results["score"].rows.tolist() != results["Cholesky and solution in SciPy"]:
        raise SystemExit("the picks of the two ways differ")
    print(f"{n_classes} classes of {n}, d = {DIMENSIONS}, ipc {ipc}, growing coefficient, alpha = 0")
    for name, seconds in taken.items():
        print(f"  {name:32s} {seconds:9.3f} s, ratio {seconds / taken['score']:.2f}")


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


def against_peers(n: int, ipc: int, times: int) -> None:
    """R_I with a fixed coefficient, one class."""
    candidates = made(1, n, DIMENSIONS)
    candidates.label_rate[:] = 1.0
    candidates.label_rate[0] = 0.0  # the bonus of row 0 that all get, here through beta
    bonus = 1e-4
    print(f"one class, {n} candidates, d = {DIMENSIONS}, {ipc} picks, fixed coefficient, alpha = 0")

    def of(peer: Callable[[np.ndarray, int], list[int]]) -> list[int]:
        z = unit(np.asarray(candidates.vectors, dtype=np.float64))
        kernel = z @ z.T + np.eye(n) * (ipc * EPS2 / DIMENSIONS)
        kernel[0, 0] *= 1 + 2 * bonus
        return peer(kernel, ipc)

    ours = partial(score, candidates, ipc, 0, Progress(), alpha=0.0, beta=bonus, eps2=EPS2, coefficient="final")
    ways: dict[str, Callable[[], Any]] = {"score, coefficient: final": ours, "Chen et al. in NumPy": partial(of, chen)}
    if installed():
        ways["submodlib-py, NaiveGreedy"] = partial(of, submodlib)
    else:
        print("  submodlib-py is not installed")
    taken, results = in_turn(ways, times)
    picks = results.pop("score, coefficient: final").rows.tolist()
    for name, seconds in taken.items():
        same = "" if name not in results else f", {len(set(results[name]) & set(picks))} of {ipc} picks the same"
        print(f"  {name:32s} {seconds:9.3f} s, ratio {seconds / taken['score, coefficient: final']:.2f}{same}")


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
    parser.add_argument("--classes", type=int, default=1000, help="of the ImageNet-1K run")
    parser.add_argument("--precision", default="float64", help="of the ImageNet-1K run: float64 or float32")
    parser.add_argument("--device", default="cpu", help="of the ImageNet-1K run")
    arguments = parser.parse_args()
    quick = arguments.quick
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}")
    if arguments.imagenet:
        classes, n, ipc = (12, 100, 3) if quick else (arguments.classes, CANDIDATES, 50)
        imagenet(classes, n, ipc, arguments.device, arguments.precision)
        return
    n = 100 if quick else CANDIDATES
    score(made(1, 50, DIMENSIONS), 40, 0, Progress())  # threads and libraries start here, not in what is timed
    times = 1 if quick else 7
    against_numpy(n, 50, times)
    against_cholesky(*((3, n, 4) if quick else (40, n, 20)), times=1 if quick else 3)
    against_peers(n, 50, times)
    growth("classes", [(c, n, 10) for c in ([2, 4] if quick else [10, 20, 40, 80])])
    growth("candidates", [(10, m, 10) for m in ([50, 100] if quick else [640, 1281, 2562])])
    growth("ipc", [(10, n, k) for k in ([2, 4] if quick else [10, 20, 40, 80])])


if __name__ == "__main__":
    main()
