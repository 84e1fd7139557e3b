"""The greedy choice of SCORE's Algorithm 1: each step picks the image that raises Eq. 4 most.

Eq. 4 of the picks is R_I - alpha R_D - beta sum R_C; `dcpipe.selection.score` explains it. Let n and n_y be the numbers
of all picks and of those of class y, including the candidate z; c = d / (n eps2), c_y = d / (n_y eps2):

    R_I = 1/2 [logdet(I + c G)       + log(1 + c z^T (I + c G)^-1 z)]             G   = sum of z z^T over all picks
    R_D = as before, but class y has  n_y/(2n) [logdet(I + c_y G_y) + log(1 + c_y z^T (I + c_y G_y)^-1 z)]

The coefficient depends on n and therefore changes I + c G by full rank in every step, so no rank-one update is exact.
Three facts make the exact choice cheap nevertheless:

* A candidate is known by its products with the picks (`rate.py`). They do not depend on the coefficient, so they are
  kept, and a new pick costs one matrix-vector product for each class that is visited. This serves R_D, and R_I while
  fewer than d / 2 images are picked.
* From then on the eigenvectors of G serve for any coefficient. They are computed anew every d / 8 picks, and the
  picks in between are added by the Woodbury identity.
* I / c + G only grows, also if c changes. So the term of a candidate in R_I only falls from step to step, and what it
  was is an upper bound of what it is. A step evaluates R_I for the candidates with the largest bounds and for those
  whose bounds exceed the best of these. (Minoux, 1978, does so for submodular functions. R_I with d / (n eps2) is not
  submodular, but the part of it that differs between candidates has what the argument needs.)

Float32 screens and float64 decides. Candidates are scored in single precision, with factors computed in double
precision, and those within a margin of the best are scored again in double precision. The difference between the two
scores is compared with the margin. If it is not far smaller, all candidates are scored in double precision. So the
picks are those of double precision, at the cost of single precision.

Cost per step for N candidates of a class: N d multiply-adds for the new product and N n_y^2 / 2 for R_D; for R_I
N n^2 / 2 + n^3 / 3 while few are picked, then E d^2 + d^3 at most, amortised, if E candidates are evaluated. E is N in
the first visits of a class and a few percent of N after ten. Memory: one class of candidates, the picked vectors,
products up to `pool.BUDGET`, four numbers per candidate, and a few d x d matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dcpipe.coding_rate.pool import Pool
from dcpipe.coding_rate.rate import LaterRate, Rate
from dcpipe.coding_rate.state import Objective, State
from dcpipe.types import FloatArray, IntArray, Sliceable, require

# Gains that differ by less than round-off are tied, in double or single precision: rates are of order 1 to 100, and the
# condition number of the matrices is below 1 + d / eps2.
_TIE = {True: 1e-10, False: 1e-5}
# Single precision errs by about 1e-6 of a term, or c times 1e-8 nats for a vector that is nearly among the picks; a
# margin a thousand times wider leaves few to score again.
_MARGIN = 1e-3
_WIDE_FROM = 100.0
_TRUST = 1 / 8
# Candidates with the largest bounds that a step evaluates first.
_FIRST = 32


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
    pool = Pool(vectors, offsets, torch.device(objective.device))
    state = State(total, pool, label_rate, objective)
    if earlier is not None:
        _replay(pool, objective, state, *earlier)
    while state.n < total:
        if state.n >= state.turn and state.n % state.period == 0:
            state.rebase()
        _step(pool, objective, state, label_rate)
        if state.n % n_classes == 0:
            report(state.rows[: state.n].copy(), state.gains[: state.n].copy())
    return state.rows, state.gains


def _step(pool: Pool, objective: Objective, state: State, label_rate: FloatArray) -> None:
    """Pick one image."""
    n_classes = len(state.counts)
    turn = state.n % n_classes
    labels = range(turn, turn + 1) if objective.by_turns else range(n_classes)
    first, last = pool.rows(labels[0]).start, pool.rows(labels[-1]).stop
    scorer = _Scorer(pool, objective, state)
    margin = max(scorer.margin(labels), _TIE[objective.double])
    quick = _screened(scorer, labels, first, np.concatenate([scorer.others(label) for label in labels]), margin)
    near, gains = np.arange(first, last), quick
    if objective.double:
        near = first + np.flatnonzero(quick >= quick.max() - margin)
        gains = scorer.exact(labels, near)
        if not np.abs(gains - quick[near - first]).max(initial=np.inf if not len(near) else 0.0) <= margin * _TRUST:
            near = first + np.flatnonzero(np.isfinite(state.cost[first:last]))
            gains = scorer.exact(labels, near)
    tied = near[gains >= gains.max() - _TIE[objective.double]]
    row = int(tied[np.argmin(label_rate[tied])])
    label = int(np.searchsorted(pool.offsets, row, side="right")) - 1
    # Computed alone, so that its last bits do not depend on which others were near.
    gain, z = scorer.alone(label, row)
    state.add(row, label, gain, z, objective)


def _screened(scorer: _Scorer, labels: range, first: int, others: FloatArray, margin: float) -> FloatArray:
    """Gains in single precision f64 [N] of the rows from `first` on, and minus infinity for those that cannot be within
    `margin` of the best. `others` f64 [N] is the gain without the candidate's term of R_I."""
    state, pool = scorer.state, scorer.pool

    if len(labels) == 1 and (state.basis is None or len(others) <= _FIRST):
        # A candidate has few products: to choose some would take longer.
        rows = pool.rows(labels[0])
        term = scorer.term(labels[0], rows)
        np.fmin(state.bounds[rows], term, out=state.bounds[rows])
        return others + term
    gains, upper = np.full(len(others), -np.inf), others + state.bounds[first : first + len(others)]

    def evaluate(places: IntArray) -> None:
        for label, rows in scorer.by_class(labels, first + places):
            term = scorer.term(label, rows)
            gains[rows - first] = others[rows - first] + term
            state.bounds[rows] = np.fmin(state.bounds[rows], term)

    some = np.argpartition(-upper, min(_FIRST, len(upper) - 1))[:_FIRST]
    evaluate(np.sort(some[np.isfinite(upper[some])]))
    upper[some] = -np.inf
    evaluate(np.flatnonzero(np.isfinite(upper) & (upper >= gains.max() - margin)))
    return gains


class _Scorer:
    """Computes the gains of candidates from the factors that all candidates of a step share."""

    def __init__(self, pool: Pool, objective: Objective, state: State) -> None:
        self.pool, self.objective, self.state = pool, objective, state
        self.d = state.vectors.shape[1]
        self.n = state.n + 1 if objective.final is None else objective.final * len(state.counts)
        self.c = self.d / (self.n * objective.eps2)
        self.all = state.all(self.c)
        self.rates: dict[int, Rate] = {}
        self.last = -1, np.zeros(0), torch.empty(0)
        if objective.alpha > 0:
            weights = state.counts if objective.final is None else np.full(len(state.counts), objective.final)
            self.weighted = weights * state.class_rate
            self.sum = float(self.weighted.sum())

    def count(self, label: int) -> int:
        """n_y, including the candidate."""
        return int(self.state.counts[label]) + 1 if self.objective.final is None else self.objective.final

    def margin(self, labels: range) -> float:
        """How far below the best, in single precision, a candidate may be and yet be the best in double precision."""
        count = max(self.count(label) for label in labels)
        fewest = min(self.count(label) for label in labels)
        r_i = min(1.0, np.log1p(self.c) / 2) * max(1.0, self.c / _WIDE_FROM)
        r_d = count / (2 * self.n) * max(1.0, self.d / (fewest * self.objective.eps2) / _WIDE_FROM)
        return float(_MARGIN * (r_i + self.objective.alpha * r_d))

    def by_class(self, labels: range, rows: IntArray) -> list[tuple[int, IntArray]]:
        """Rows, ascending, of some classes: those of each class that has any."""
        if len(labels) == 1:
            return [(labels[0], rows)] if len(rows) else []
        ends = np.searchsorted(rows, self.pool.offsets)
        return [(label, rows[ends[label] : ends[label + 1]]) for label in labels if ends[label] < ends[label + 1]]

    def others(self, label: int) -> FloatArray:
        """The gains f64 [N] of a class without the candidates' terms of R_I; R_D is in single precision."""
        rows = self.pool.rows(label)
        return self._without(label, self._own(label)) - self.state.cost[rows]

    def term(self, label: int, rows: slice | IntArray) -> FloatArray:
        """The terms of R_I f64 [m] of some rows of a class, or of all its rows, in single precision."""
        if isinstance(self.all, LaterRate):
            places = None if isinstance(rows, slice) else rows - self.pool.rows(label).start
            more = self.all.more(self._rotated(self.pool.some(label, places)))
        else:
            state = self.state
            products = state.of_all.of(label, state.vectors, slice(0, state.n), state.n, len(state.gram))
            squares = self._chosen(self.pool.lengths(label), label, rows)
            more = self.all.more(squares, self._chosen(products, label, rows))
        return _array(more) / 2

    def exact(self, labels: range, rows: IntArray) -> FloatArray:
        """The gains f64 [m] of some rows, ascending, in double precision."""
        parts = [self._exact(label, members)[0] for label, members in self.by_class(labels, rows)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def alone(self, label: int, row: int) -> tuple[float, torch.Tensor]:
        """The gain of one row in double precision, and its vector f64 [d]."""
        if self.last[0] != row:
            self._exact(label, np.array([row]))
        return float(self.last[1][0]), self.last[2][0]

    def _exact(self, label: int, rows: IntArray) -> tuple[FloatArray, torch.Tensor]:
        """The gains f64 [m] of some rows of a class and their vectors f64 [m, d]."""
        state, squares = self.state, torch.from_numpy(self.pool.nonzero[rows]).to(self.pool.device, torch.float64)
        x = self.pool.exact(rows if state.n or len(rows) == 1 else rows[:0])  # without picks, lengths are enough
        if isinstance(self.all, LaterRate):
            term = self.all.more(self._rotated(x))
        else:
            term = self.all.more(squares, self._products(x, state.vectors[: state.n], len(rows)))
        own = np.zeros(len(rows))
        if self.objective.alpha > 0:
            own = _array(self.of_class(label).more(squares, self._products(x, state.of_class(label), len(rows))))
        gains = _array(term) / 2 + self._without(label, own) - state.cost[rows]
        self.last = (int(rows[0]) if len(rows) == 1 else -1), gains, x
        return gains, x

    @staticmethod
    def _products(x: torch.Tensor, picks: torch.Tensor, rows: int) -> torch.Tensor:
        return x @ picks.T if len(picks) else x.new_empty(rows, 0)

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        assert self.state.basis is not None
        return self.state.basis.rotate(x)

    def _chosen(self, x: torch.Tensor, label: int, rows: slice | IntArray) -> torch.Tensor:
        """Some rows of an array of all candidates of a class."""
        if isinstance(rows, slice):
            return x
        return x[torch.from_numpy(rows - self.pool.rows(label).start).to(x.device)]

    def _own(self, label: int) -> FloatArray:
        """The logarithms f64 [N] that the candidates of a class add to its rate, in single precision."""
        state, rows = self.state, self.pool.rows(label)
        if self.objective.alpha > 0 and state.own_at[label] != state.counts[label]:
            turns = len(state.counts) if self.objective.by_turns else 1
            most = min(rows.stop - rows.start, -(-len(state.rows) // turns))
            places = state.places[label]
            products = state.of_own.of(label, state.vectors, places, len(places), most)
            more = self.of_class(label).more(self.pool.lengths(label), products)
            state.own[rows], state.own_at[label] = _array(more), state.counts[label]
        return state.own[rows]

    def of_class(self, label: int) -> Rate:
        """logdet(I + c_y G_y) of the picks of a class."""
        if label not in self.rates:
            c = self.d / (self.count(label) * self.objective.eps2)
            self.rates[label] = Rate.of_gram(self.state.gram_of[label], c)
        return self.rates[label]

    def _without(self, label: int, own: FloatArray) -> FloatArray:
        """R(S + z) - R(S) without R_C and without the term of the candidate in R_I."""
        gains: FloatArray = self.all.value / 2 - self.state.value + np.zeros(len(own))
        if self.objective.alpha > 0:
            others = self.sum - self.weighted[label]
            gains -= (
                self.objective.alpha * (others + self.count(label) * (self.of_class(label).value + own)) / (2 * self.n)
            )
        return gains


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.cpu().numpy().astype(np.float64)
    return array


def _replay(pool: Pool, objective: Objective, state: State, earlier: IntArray, gains: FloatArray) -> None:
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
        pool.load(int(label))  # measures the norms of this class
    vectors = pool.exact(earlier)
    based = n - n % state.period
    for row, label, gain, z in zip(earlier, labels, gains, vectors, strict=True):
        if state.n == based >= state.turn:
            state.rebase()
        state.add(int(row), int(label), float(gain), z, objective)
