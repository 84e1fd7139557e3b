"""The greedy choice of SCORE's Algorithm 1: each step picks the image that raises Eq. 4 most.

Eq. 4 of the picks is R_I - alpha R_D - beta sum R_C; `dcpipe.selection.score` explains it. Let n and n_y be the numbers
of all picks and of those of class y, including the candidate z; c = d / (n eps2), c_y = d / (n_y eps2):

    R_I = 1/2 [logdet(I + c G)       + log(1 + c z^T (I + c G)^-1 z)]             G   = sum of z z^T over all picks
    R_D = as before, but class y has  n_y/(2n) [logdet(I + c_y G_y) + log(1 + c_y z^T (I + c_y G_y)^-1 z)]

The coefficient depends on n and therefore changes I + c G by full rank in every step, so no rank-one update is exact.
But all candidates of a step share it: one Cholesky factor and one triangular solve score a whole class. R_I uses the
smaller of the d x d and the n x n form of `rate.py`; R_D always uses the latter, because a class has few picks.

Float32 screens and float64 decides. All candidates are scored in single precision, with a factor computed in double
precision, and those within a margin of the best are scored again in double precision. The difference between the two
scores is compared with the margin. If it is not far smaller, all candidates are scored in double precision. So the
picks are those of double precision, at the cost of single precision.

Cost per step for N candidates: d^3 / 3 + N d^2 / 2 multiply-adds at most, n^3 / 3 + n^2 d + N n (n + d) while few are
picked. Memory: one class of candidates, the picked vectors, and a few d x d matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.coding_rate.rate import Rate, sample_form_is_cheaper
from dcpipe.types import FloatArray, IntArray, Sliceable, require

# Gains that differ by less than round-off are tied, in double or single precision: rates are of order 1 to 100, and the
# condition number of the matrices is below 1 + d / eps2.
_TIE = {True: 1e-10, False: 1e-5}
# Single precision errs by about 1e-6 nats on unit vectors; a margin a thousand times wider leaves few to score again.
_MARGIN = 1e-3
_TRUST = 1 / 8


@dataclass(frozen=True)
class Objective:
    """The coefficients of Eq. 4, which classes a step may pick from, and the precision.

    Attributes:
        alpha, beta, eps2: coefficients of Eq. 4.
        final: ipc if the counts n and n_y are fixed at their final values, else None.
        by_turns: whether the classes take turns; otherwise every step considers all classes.
        double: whether the best candidates are scored again in float64.
        device: where candidates are scored.

    Raises `DataError` for coefficients that are out of range.
    """

    alpha: float
    beta: float
    eps2: float
    final: int | None = None
    by_turns: bool = True
    double: bool = True
    device: str = "cpu"


class _Pool:
    """Loads candidates on demand, at unit length and on the device: one class in float32, or a few rows in float64."""

    def __init__(self, vectors: Sliceable, offsets: IntArray, device: torch.device) -> None:
        self.vectors, self.offsets, self.device = vectors, offsets, device
        self.norms = np.full(int(offsets[-1]), np.nan)
        self.space = np.empty((int(np.diff(offsets).max()), vectors.shape[1]), dtype=np.float32)

    def rows(self, label: int) -> slice:
        return slice(int(self.offsets[label]), int(self.offsets[label + 1]))

    def quick(self, label: int) -> torch.Tensor:
        """All vectors of a class, f32 [N, d]; the next call overwrites them."""
        rows = self.rows(label)
        block = np.asarray(self.vectors[rows])
        if np.isnan(self.norms[rows]).any():
            self._measure(label, block)
        scaled = self.space[: len(block)]
        np.divide(block, self.norms[rows, None].astype(np.float32), out=scaled, casting="same_kind")
        return torch.from_numpy(scaled).to(self.device)

    def exact(self, rows: IntArray) -> torch.Tensor:
        """Some rows, f64 [m, d], of classes that `quick` has already loaded."""
        block = np.asarray(self.vectors[rows], dtype=np.float64)
        return torch.from_numpy(block / self.norms[rows, None]).to(self.device)

    def _measure(self, label: int, block: npt.NDArray[np.floating]) -> None:
        norms = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
        require(
            bool(np.isfinite(norms).all()),
            f"candidates: vectors of class {label} contain NaN or infinity; extract the features again",
        )
        self.norms[self.rows(label)] = np.where(norms > 0, norms, 1.0)  # rows of zeros stay zero


class _State:
    """The state after the picks so far.

    `rows`, `labels`, `gains`, `costs` and unit `vectors` of the picks are filled up to `n`; `scatter` is the scatter
    matrix of all picks. `counts` and `class_rate` hold the number of picks and logdet(I + c_j G_j) for each class.
    `cost` f64 [n candidates] is beta R_C, and infinite for rows that cannot be picked.
    """

    def __init__(self, total: int, d: int, label_rate: FloatArray, n_classes: int, objective: Objective) -> None:
        double, device = torch.float64, objective.device
        self.n = 0
        self.rows, self.labels = np.zeros(total, dtype=np.int64), np.full(total, -1, dtype=np.int64)
        self.gains, self.costs = np.zeros(total), np.zeros(total)
        self.vectors = torch.zeros(total, d, dtype=double, device=device)
        self.scatter = torch.zeros(d, d, dtype=double, device=device)
        self.counts, self.class_rate = np.zeros(n_classes, dtype=np.int64), np.zeros(n_classes)
        self.cost = np.where(np.isfinite(label_rate), label_rate, 0.0) * objective.beta
        self.cost[~np.isfinite(label_rate)] = np.inf

    def of_class(self, label: int) -> torch.Tensor:
        """Vectors of the picks of one class, f64 [n_y, d]."""
        places = torch.from_numpy(np.flatnonzero(self.labels[: self.n] == label))
        return self.vectors.index_select(0, places.to(self.vectors.device))

    def add(self, row: int, label: int, gain: float, z: torch.Tensor, objective: Objective) -> None:
        n = self.n
        self.rows[n], self.labels[n], self.gains[n], self.costs[n] = row, label, gain, self.cost[row]
        self.vectors[n] = z
        self.scatter.addr_(z, z)
        self.cost[row] = np.inf
        self.counts[label] += 1
        self.n = n + 1
        count = int(self.counts[label]) if objective.final is None else objective.final
        picks = self.of_class(label)
        self.class_rate[label] = Rate.of_vectors(picks, picks.shape[1] / (count * objective.eps2)).value


def greedy(
    vectors: Sliceable,
    offsets: IntArray,
    label_rate: FloatArray,
    total: int,
    objective: Objective,
    *,
    earlier: tuple[IntArray, FloatArray] | None = None,
    report: Callable[[IntArray, FloatArray], None] = lambda rows, gains: None,
) -> tuple[IntArray, FloatArray]:
    """Make `total` picks. Returns their rows, i64, and gains, f64: R(S + x) - R(S) in nats, where R sums R_C over S.

    Ties go to the image with the lower label rate, then to the lower row.

    Args:
        vectors: f32 [n, d], sorted by class; class y has the rows `offsets[y] : offsets[y + 1]`. They are read one
            class at a time.
        offsets: i64 [number of classes + 1].
        label_rate: f64 [n], R_C. An image with an infinite rate is not a candidate.
        total: number of picks.
        objective: the coefficients of Eq. 4 and how it is evaluated.
        earlier: (rows, gains) of picks that a killed run has already made.
        report: called with the rows and gains of all picks so far, each time as many picks were made as there are
            classes.

    Raises `DataError` for vectors that are not finite and for earlier picks that do not belong to these candidates.
    """
    n_classes = len(offsets) - 1
    pool = _Pool(vectors, offsets, torch.device(objective.device))
    state = _State(total, vectors.shape[1], label_rate, n_classes, objective)
    if earlier is not None:
        _replay(pool, objective, state, *earlier)
    while state.n < total:
        _step(pool, objective, state, label_rate)
        if state.n % n_classes == 0:
            report(state.rows[: state.n].copy(), state.gains[: state.n].copy())
    return state.rows, state.gains


def _step(pool: _Pool, objective: Objective, state: _State, label_rate: FloatArray) -> None:
    """Pick one image."""
    n_classes = len(state.counts)
    turn = state.n % n_classes
    labels = range(turn, turn + 1) if objective.by_turns else range(n_classes)
    first, last = pool.rows(labels[0]).start, pool.rows(labels[-1]).stop
    scorer = _Scorer(objective, state, last - first)
    quick = np.concatenate([scorer.gains(label, pool.quick(label), pool.rows(label)) for label in labels])
    near, gains = np.arange(first, last), quick
    if objective.double:
        margin = _MARGIN * (1 + objective.alpha)
        near = first + np.flatnonzero(quick >= quick.max() - margin)
        gains = _exact(pool, scorer, labels, near)
        if not np.abs(gains - quick[near - first]).max(initial=np.inf if not len(near) else 0.0) <= margin * _TRUST:
            near = first + np.flatnonzero(np.isfinite(state.cost[first:last]))
            gains = _exact(pool, scorer, labels, near)
    tied = near[gains >= gains.max() - _TIE[objective.double]]
    row = int(tied[np.argmin(label_rate[tied])])
    label = int(np.searchsorted(pool.offsets, row, side="right")) - 1
    state.add(row, label, float(gains[near == row][0]), pool.exact(np.array([row]))[0], objective)


def _exact(pool: _Pool, scorer: _Scorer, labels: range, rows: IntArray) -> FloatArray:
    """Gains of some rows (ascending) in double precision."""
    owners = np.searchsorted(pool.offsets, rows, side="right") - 1
    parts = [(label, rows[owners == label]) for label in labels]
    return np.concatenate([scorer.gains(label, pool.exact(members), members) for label, members in parts])


class _Scorer:
    """Computes the gains of candidates from the factors that all candidates of a step share."""

    def __init__(self, objective: Objective, state: _State, candidates: int) -> None:
        self.objective, self.state = objective, state
        d = state.vectors.shape[1]
        self.n = state.n + 1 if objective.final is None else objective.final * len(state.counts)
        c = d / (self.n * objective.eps2)
        if sample_form_is_cheaper(state.n, d, candidates):
            self.all = Rate.of_vectors(state.vectors[: state.n], c)
        else:
            self.all = Rate.of_scatter(state.scatter, c)
        self.weights = state.counts if objective.final is None else np.full(len(state.counts), objective.final)
        # R(S) without the R_C terms is the sum of the gains without them; this also holds right after a replay.
        self.before = float((state.gains[: state.n] + state.costs[: state.n]).sum())
        self.of_class: dict[int, Rate] = {}

    def gains(self, label: int, x: torch.Tensor, rows: slice | IntArray) -> FloatArray:
        """R(S + z) - R(S) for each row z of `x` [N, d] added to class `label`: f64 [N], computed in the type of `x`."""
        objective, state = self.objective, self.state
        count = int(state.counts[label]) + 1 if objective.final is None else objective.final
        if label not in self.of_class:
            self.of_class[label] = Rate.of_vectors(state.of_class(label), x.shape[1] / (count * objective.eps2))
        rate = self.of_class[label]
        others = float((np.delete(self.weights, label) * np.delete(state.class_rate, label)).sum())
        r_i = (self.all.value + _array(self.all.more(x))) / 2
        r_d = (others + count * (rate.value + _array(rate.more(x)))) / (2 * self.n)
        gains: FloatArray = r_i - objective.alpha * r_d - self.before - state.cost[rows]
        return gains


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.double().cpu().numpy()
    return array


def _replay(pool: _Pool, objective: Objective, state: _State, earlier: IntArray, gains: FloatArray) -> None:
    """Restore the state of a killed run: the same sums are added in the same order, so the same picks follow."""
    n, n_classes = len(earlier), len(state.counts)
    legal = n <= len(state.rows) and len(np.unique(earlier)) == n
    legal = legal and bool(((earlier >= 0) & (earlier < pool.offsets[-1])).all())
    labels = np.searchsorted(pool.offsets, earlier, side="right") - 1
    if legal and objective.by_turns:
        legal = bool((labels == np.arange(n) % n_classes).all())
    require(
        legal,
        f"selection: the {n} picks of an earlier run are not the first of {len(state.rows)} picks from these "
        "candidates; run `dcpipe clean` and select again",
    )
    for label in np.unique(labels):
        pool.quick(int(label))  # measures the norms of this class
    vectors = pool.exact(earlier)
    for row, label, gain, z in zip(earlier, labels, gains, vectors, strict=True):
        state.add(int(row), int(label), float(gain), z, objective)
