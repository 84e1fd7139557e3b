"""What a greedy choice has picked so far, and the matrices that the next step needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dcpipe.coding_rate.pool import BUDGET, Pool, Products
from dcpipe.coding_rate.rate import Basis, LaterRate, Rate
from dcpipe.types import FloatArray


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


class State:
    """The state after the picks so far.

    `rows`, `labels`, `gains`, `costs` and unit `vectors` of the picks are filled up to `n`, and `value` is R(S) without
    the R_C terms. `counts`, `places`, `gram_of` and `class_rate` hold the number of picks, their places, their Gram
    matrix and logdet(I + c_j G_j) for each class. `cost` f64 [n candidates] is beta R_C, and infinite for rows that
    cannot be picked.

    Up to `turn` picks, `gram` is the Gram matrix of all picks. From then on, `scatter` is the scatter matrix of the
    first `based` picks, `basis` is its basis, and `later` f64 [m, d] has the rotated picks since.

    `bounds` f64 [n candidates] are upper bounds of half the logarithm that a candidate adds to R_I. `own` f64
    [n candidates] is the logarithm that it adds to its class in R_D, valid while the class has `own_at` picks.
    """

    def __init__(self, total: int, pool: Pool, label_rate: FloatArray, objective: Objective) -> None:
        d, n_classes, double = pool.vectors.shape[1], len(pool.offsets) - 1, torch.float64
        self.n, self.based, self.value = 0, 0, 0.0
        self.rows, self.labels = np.zeros(total, dtype=np.int64), np.full(total, -1, dtype=np.int64)
        self.gains, self.costs = np.zeros(total), np.zeros(total)
        self.vectors = torch.zeros(total, d, dtype=double, device=pool.device)
        self.scatter = torch.zeros(d, d, dtype=double, device=pool.device)
        self.counts, self.class_rate = np.zeros(n_classes, dtype=np.int64), np.zeros(n_classes)
        self.places: list[list[int]] = [[] for _ in range(n_classes)]
        self.gram_of = [torch.zeros(0, 0, dtype=double, device=pool.device)] * n_classes
        self.cost = np.where(np.isfinite(label_rate), label_rate, 0.0) * objective.beta
        self.cost[~np.isfinite(label_rate)] = np.inf
        self.period = max(8, d // 8)
        self.turn = -(-d // 2 // self.period) * self.period
        side = min(self.turn, total)
        self.basis: Basis | None = None
        self.gram = torch.zeros(side, side, dtype=double, device=pool.device)
        self.later = torch.zeros(self.period, d, dtype=double, device=pool.device)
        self.bounds = np.full(len(label_rate), np.log1p(d / objective.eps2) / 2)
        self.own, self.own_at = np.zeros(len(label_rate)), np.full(n_classes, -1)
        # A class that is not visited again before the turn does not need its products with all picks again.
        once = objective.by_turns and n_classes >= side
        self.of_all, self.of_own = Products(pool, 0 if once else BUDGET // 2), Products(pool, BUDGET)

    def of_class(self, label: int) -> torch.Tensor:
        """Vectors of the picks of one class, f64 [n_y, d]."""
        return self.vectors[torch.tensor(self.places[label], dtype=torch.int64, device=self.vectors.device)]

    def all(self, c: float) -> Rate | LaterRate:
        """logdet(I + c G) of all picks."""
        if self.basis is None:
            return Rate.of_gram(self.gram[: self.n, : self.n], c)
        return LaterRate.of(self.basis, self.later[: self.n - self.based], c)

    def add(self, row: int, label: int, gain: float, z: torch.Tensor, objective: Objective) -> None:
        n = self.n
        self.rows[n], self.labels[n], self.gains[n], self.costs[n] = row, label, gain, self.cost[row]
        self.vectors[n] = z
        if self.basis is not None:
            self.later[n - self.based] = self.basis.rotate(z)
        elif n < len(self.gram):
            self.gram[n, : n + 1] = self.gram[: n + 1, n] = self.vectors[: n + 1] @ z
        self.value += gain + self.cost[row]
        self.cost[row] = np.inf
        self.counts[label] += 1
        self.places[label].append(n)
        self.n = n + 1
        if objective.alpha > 0:
            count = int(self.counts[label]) if objective.final is None else objective.final
            self.gram_of[label] = _bordered(self.gram_of[label], self.of_class(label) @ z)
            self.class_rate[label] = Rate.of_gram(self.gram_of[label], len(z) / (count * objective.eps2)).value

    def rebase(self) -> None:
        """Sum up all picks in a new basis; always in the same order, whenever a run was killed."""
        for start in range(self.based, self.n, self.period):
            later = self.vectors[start : start + self.period]
            self.scatter.addmm_(later.T, later)
        self.basis, self.based = Basis.of_scatter(self.scatter), self.n
        self.of_all.clear()


def _bordered(gram: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """A Gram matrix f64 [n, n] with one more row and column f64 [n + 1]."""
    larger = column.new_empty(len(column), len(column))
    larger[:-1, :-1], larger[-1], larger[:, -1] = gram, column, column
    return larger
