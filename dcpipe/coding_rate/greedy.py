"""The greedy choice of SCORE's Algorithm 1: one image at a time, the one that raises Eq. 4 most.

Eq. 4 of the picks is R_I - alpha R_D - beta sum R_C; `dcpipe.selection.score` tells what it means. Let n and n_y count
all picks and those of class y, with the candidate z among them; c = d / (n eps2), c_y = d / (n_y eps2):

    R_I = 1/2 [logdet(I + c G)       + log(1 + c z^T (I + c G)^-1 z)]             G   = sum of z z^T over all picks
    R_D = as before, but class y has  n_y/(2n) [logdet(I + c_y G_y) + log(1 + c_y z^T (I + c_y G_y)^-1 z)]

The coefficient moves with n, which changes I + c G by full rank, so no rank-one update is exact. But every candidate
of one step shares it: one Cholesky factor and one triangular solve score a whole class. R_I takes the smaller of the
d x d and the n x n form of `rate.py`; R_D, whose classes hold few picks, always takes the latter.

Float32 screens and float64 decides: all candidates are scored in single precision with a factor made in double, and
those within a margin of the best again in double. The margin is compared with the error seen on those, and if that is
not far smaller, all are scored in double: the picks are those of double precision, at the cost of single.

Cost a step, for N candidates: d^3 / 3 + N d^2 / 2 multiply-adds at most, n^3 / 3 + n^2 d + N n (n + d) while few are
picked. Memory: one class of candidates, the picked vectors, a few d x d matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.coding_rate.rate import Rate, sample_form_is_cheaper
from dcpipe.types import FloatArray, IntArray, Sliceable, require

# Gains nearer than round-off are a tie: rates are of order 1 to 100, and the matrices' condition is below 1 + d / eps2.
_TIE = {True: 1e-10, False: 1e-5}
# Single precision errs by about 1e-6 nats on unit vectors; a margin a thousand times wider leaves few to look at again.
_MARGIN = 1e-3
_TRUST = 1 / 8


@dataclass(frozen=True)
class Objective:
    """Eq. 4, whose turn it is, and the arithmetic it is evaluated in.

    `final` is ipc where the counts n and n_y are held at their last values, else None. `by_turns`: each class picks in
    its turn; else every step looks at all classes. `double` re-scores the best in float64.
    """

    alpha: float
    beta: float
    eps2: float
    final: int | None = None
    by_turns: bool = True
    double: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            require(0 <= value < float("inf"), f"selection.options.{name} is {value}; give a number of at least 0")
        require(0 < self.eps2 < float("inf"), f"selection.options.eps2 is {self.eps2}; give a number above 0")


class _Pool:
    """Candidates on demand, at unit length on the device: one class in float32, or a few rows in float64."""

    def __init__(self, vectors: Sliceable, offsets: IntArray, device: torch.device) -> None:
        self.vectors, self.offsets, self.device = vectors, offsets, device
        self.norms = np.full(int(offsets[-1]), np.nan)
        self.space = np.empty((int(np.diff(offsets).max()), vectors.shape[1]), dtype=np.float32)

    def rows(self, label: int) -> slice:
        return slice(int(self.offsets[label]), int(self.offsets[label + 1]))

    def quick(self, label: int) -> torch.Tensor:
        """All of a class, f32 [N, d]; in memory that the next call uses again."""
        rows = self.rows(label)
        block = np.asarray(self.vectors[rows])
        if np.isnan(self.norms[rows]).any():
            self._measure(label, block)
        scaled = self.space[: len(block)]
        np.divide(block, self.norms[rows, None].astype(np.float32), out=scaled, casting="same_kind")
        return torch.from_numpy(scaled).to(self.device)

    def exact(self, rows: IntArray) -> torch.Tensor:
        """Some rows of classes that `quick` has shown, f64 [m, d]."""
        block = np.asarray(self.vectors[rows], dtype=np.float64)
        return torch.from_numpy(block / self.norms[rows, None]).to(self.device)

    def _measure(self, label: int, block: npt.NDArray[np.floating]) -> None:
        norms = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
        require(
            bool(np.isfinite(norms).all()),
            f"candidates: vectors of class {label} hold NaN or infinity; extract the features again",
        )
        self.norms[self.rows(label)] = np.where(norms > 0, norms, 1.0)  # rows of zeros stay


class _State:
    """What the picks so far leave behind: `rows`, their `labels`, `gains` and unit `vectors`, filled up to `n`; the
    `scatter` of all of them; each class's count and `class_rate` logdet(I + c_j G_j); `cost` f64 [n candidates],
    beta R_C, infinite for what cannot be picked."""

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

    def own(self, label: int) -> torch.Tensor:
        """Vectors of the picks of one class."""
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
        own = self.own(label)
        self.class_rate[label] = Rate.of_vectors(own, own.shape[1] / (count * objective.eps2)).value


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
    """`total` picks: rows i64 and their gains f64, R(S + x) - R(S) in nats, where R sums R_C over the set.

    `vectors` f32 [n, d] sorted by class, class y in rows `offsets[y] : offsets[y + 1]`; one class at a time is read.
    `label_rate` f64 [n]: R_C; an image of infinite rate is no candidate. Ties go to the lower rate, then to the lower
    row. `earlier` picks (rows, gains) are taken over; `report` is called with all picks so far, each time every
    class could have had one more. Raises `DataError` for vectors that are not finite and for earlier picks that do
    not belong here.
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
    judge = _Judge(objective, state, last - first)
    quick = np.concatenate([judge.gains(label, pool.quick(label), pool.rows(label)) for label in labels])
    near, gains = np.arange(first, last), quick
    if objective.double:
        margin = _MARGIN * (1 + objective.alpha)
        near = first + np.flatnonzero(quick >= quick.max() - margin)
        gains = _exact(pool, judge, labels, near)
        if not np.abs(gains - quick[near - first]).max(initial=np.inf if not len(near) else 0.0) <= margin * _TRUST:
            near = first + np.flatnonzero(np.isfinite(state.cost[first:last]))
            gains = _exact(pool, judge, labels, near)
    tied = near[gains >= gains.max() - _TIE[objective.double]]
    row = int(tied[np.argmin(label_rate[tied])])
    label = int(np.searchsorted(pool.offsets, row, side="right")) - 1
    state.add(row, label, float(gains[near == row][0]), pool.exact(np.array([row]))[0], objective)


def _exact(pool: _Pool, judge: _Judge, labels: range, rows: IntArray) -> FloatArray:
    """Gains of some rows (ascending) in double precision."""
    owners = np.searchsorted(pool.offsets, rows, side="right") - 1
    parts = [(label, rows[owners == label]) for label in labels]
    return np.concatenate([judge.gains(label, pool.exact(own), own) for label, own in parts])


class _Judge:
    """What one more pick is worth, from the factors that all candidates of a step share."""

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
        # R(S) without its R_C is the sum of the gains without theirs: right after a replay too.
        self.before = float((state.gains[: state.n] + state.costs[: state.n]).sum())
        self.own: dict[int, Rate] = {}

    def gains(self, label: int, x: torch.Tensor, rows: slice | IntArray) -> FloatArray:
        """R(S + z) - R(S) for each row z of `x` [N, d] added to class `label`, f64 [N], at the precision of `x`."""
        objective, state = self.objective, self.state
        count = int(state.counts[label]) + 1 if objective.final is None else objective.final
        if label not in self.own:
            self.own[label] = Rate.of_vectors(state.own(label), x.shape[1] / (count * objective.eps2))
        own = self.own[label]
        others = float((np.delete(self.weights, label) * np.delete(state.class_rate, label)).sum())
        r_i = (self.all.value + _array(self.all.more(x))) / 2
        r_d = (others + count * (own.value + _array(own.more(x)))) / (2 * self.n)
        gains: FloatArray = r_i - objective.alpha * r_d - self.before - state.cost[rows]
        return gains


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.double().cpu().numpy()
    return array


def _replay(pool: _Pool, objective: Objective, state: _State, earlier: IntArray, gains: FloatArray) -> None:
    """Bring the state to where a killed run left it: the same sums in the same order, so that the same picks follow."""
    n, n_classes = len(earlier), len(state.counts)
    legal = n <= len(state.rows) and len(np.unique(earlier)) == n
    legal = legal and bool(((earlier >= 0) & (earlier < pool.offsets[-1])).all())
    labels = np.searchsorted(pool.offsets, earlier, side="right") - 1
    if legal and objective.by_turns:
        legal = bool((labels == np.arange(n) % n_classes).all())
    require(
        legal,
        f"the {n} earlier picks are not the first of {len(state.rows)} from these candidates; "
        "remove them and select anew",
    )
    for label in np.unique(labels):
        pool.quick(int(label))  # measures the class's norms
    vectors = pool.exact(earlier)
    for row, label, gain, z in zip(earlier, labels, gains, vectors, strict=True):
        state.add(int(row), int(label), float(gain), z, objective)
