"""GRAD-MATCH: a few images whose weighted gradients add up to the gradient of their whole class.

Idea. A training step on the picks should have the same direction as a step on all images. For each class, orthogonal
matching pursuit searches for picks X and weights w that make

    E(X, w) = |sum_{j in X} w_j g_j - b|^2 + ridge |w|^2             b = mean gradient of the class

small: add the image whose gradient has the largest inner product with the residual b - sum_j w_j g_j, refit all
weights, and repeat. Gradients are those of the last layer (`last_layer.py`). The teacher's features are not normalised,
because the length of a gradient shows how wrong the teacher is.

Formula. With K the inner products of the picks and k_b those with b, the fit solves (K + ridge I) w = k_b. Inner
products with the residual are <g_i, b> - sum_j w_j <g_i, g_j>, and E = |b|^2 - k_b . w for the best w, so the gain of a
pick is what it adds to k_b . w, with and without the sign constraint. If b is the sum instead of the mean, w and all
inner products are N times as large and the picks are the same for any ridge; the gains are N^2 times as large.

Cost for a class of N images: 2 N C d multiply-adds once, then N (C + d + k) and a k x k Cholesky factorisation for pick
k. Memory: one class and N x ipc inner products.

Paper: "GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model Training", Killamsetty et
al., ICML 2021, Sec. 3 and 4 (per-class variant, last-layer gradients). Code: CORDS (decile-team/cords). Choices:

* A condensed set has no weights: only the picks are used, and each counts once. The paper trains with w and picks again
  every few epochs; here one trained teacher gives all gradients.
* `non_negative`, the default, is what the code does: it uses the largest signed product, and weights are at least 0.
  The published algorithm uses the largest absolute product, and weights of any sign. Then an image may be picked in
  order to be subtracted, but a set without weights would add it. The code drops picks whose weight turns negative; here
  the fit with w >= 0 is exact (active sets as in Lawson and Hanson), and a pick stays, at weight 0.
* `ridge` is 0.5 in the code's configurations for the per-class variants, and counts against |g|^2. A teacher that fits
  its training images well has gradients much shorter than 1. Then w is near 0, the residual stays near b, and the picks
  are those with the largest <g_i, b>, including near duplicates. A `ridge` far below the mean |g|^2 restores the
  pursuit. The code fits the weight of the first pick without the ridge; here every fit uses it.
* The code stops when the residual is below a share of b (`eps`: 1e-4 in the code, 1e-100 in its configurations) and
  adds random images of all classes. Here the pursuit stops when no product with the residual exceeds round-off, and
  random images of the same class are added.
* The per-batch variant picks whole mini-batches, and the per-gradient one uses only the row of the last layer that
  belongs to the class. Neither is implemented, because the first is not defined for single images and the second is
  only cheaper.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.config.options import validated
from dcpipe.config.values import NotNegative
from dcpipe.random import Draw, permutation
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.selection.last_layer import Gradients, errors_of
from dcpipe.types import FloatArray, IntArray

# Round-off relative to the largest product of lengths: inner products this close are a tie, or 0.
_TIE = 1e-10
# A gradient counts as a combination of earlier picks if less than this share of its squared length is new.
_NEW = 1e-12


@validated("selector 'gradmatch'")
def gradmatch(
    candidates: Candidates,
    ipc: int,
    seed: int,
    progress: Progress,
    *,
    ridge: NotNegative = 0.5,
    non_negative: bool = True,
    bias: bool = True,
) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class; gains f64: the decrease of E by each pick.

    `ridge` penalises the squared weights, `non_negative` keeps them at 0 or more, `bias` includes the gradient w.r.t.
    the bias of the last layer. Ties go to the lower row. If nothing is left to match (all remaining gradients are zero,
    copies of picks, or do not help), the remaining picks are drawn in an order that depends on (`seed`, class), with
    gains of 0; `seed` has no other use. A smaller `ipc` gives a prefix. Raises `DataError` for a class with fewer than
    `ipc` images and a negative `ridge`.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        probabilities = candidates.class_probabilities(label)
        targets = np.full(len(probabilities), label)
        gradients = Gradients(errors_of(probabilities, targets), candidates.class_vectors(label), bias)
        rows, gains = _pursue(gradients, n, ridge, non_negative)
        shuffled = permutation(seed, label, len(probabilities), draw=Draw.GRADMATCH_FILL)
        rest = shuffled[~np.isin(shuffled, rows)][: n - len(rows)]
        return np.concatenate([rows, rest]), np.concatenate([gains, np.zeros(len(rest))])

    return class_by_class(candidates, ipc, progress, pick)


def _pursue(gradients: Gradients, ipc: int, ridge: float, non_negative: bool) -> tuple[IntArray, FloatArray]:
    """Rows and gains of up to `ipc` picks; fewer if nothing is left to match."""
    lengths = np.sqrt(gradients.squared_norms())
    least = _TIE * float(lengths.max() * lengths.mean())
    toward_mean = gradients.inner_with_mean()
    columns = np.empty((len(lengths), ipc))
    rows, gains = np.empty(ipc, dtype=np.int64), np.empty(ipc)
    weights, free, explained = np.empty(0), np.empty(0, dtype=np.bool_), 0.0
    left = toward_mean
    for k in range(ipc):
        merit = left.copy() if non_negative else np.abs(left)
        merit[rows[:k]] = -np.inf
        if merit.max() <= least:
            return rows[:k], gains[:k]
        rows[k] = int((merit >= merit.max() - least).argmax())
        columns[:, k] = gradients.inner(int(rows[k]))
        picked = rows[: k + 1]
        gram, target = columns[picked, : k + 1] + ridge * np.eye(k + 1), toward_mean[picked]
        weights, free = np.append(weights, 0.0), np.append(free, False)
        if non_negative:
            weights = _fit_non_negative(gram, target, weights, free, least)
        elif _is_new(gram, free, k):
            free[k] = True
            weights = _fit(gram, target, free)
        gains[k] = float(target @ weights) - explained
        explained += gains[k]
        left = toward_mean - columns[:, : k + 1] @ weights
    return rows, gains


def _fit(gram: FloatArray, target: FloatArray, free: npt.NDArray[np.bool_]) -> FloatArray:
    """argmin_w of w^T gram w - 2 target . w, f64 [k], where weights that are not `free` are 0."""
    weights = np.zeros(len(target))
    factor = torch.linalg.cholesky(torch.from_numpy(gram[np.ix_(free, free)]))
    weights[free] = torch.cholesky_solve(torch.from_numpy(target[free])[:, None], factor)[:, 0].numpy()
    return weights


def _is_new(gram: FloatArray, free: npt.NDArray[np.bool_], row: int) -> bool:
    """Whether gradient `row` is not a combination of the free ones up to round-off, so the fit has a unique
    solution."""
    return float(gram[row, row] - gram[row] @ _fit(gram, gram[row], free)) > _NEW * float(gram[row, row])


def _fit_non_negative(
    gram: FloatArray, target: FloatArray, weights: FloatArray, free: npt.NDArray[np.bool_], least: float
) -> FloatArray:
    """As `_fit`, but with no weight below 0. Starts at `weights`; `free` marks the weights above 0 and is updated in
    place.

    Each iteration frees the weight of steepest descent and moves to the optimum over the free weights; a weight that
    reaches 0 on the way is fixed there. E decreases in every iteration, so no set of free weights occurs twice.
    """
    barred = np.zeros_like(free)
    while True:
        residual = np.where(free | barred, -np.inf, target - gram @ weights)
        row = int(residual.argmax())
        if residual[row] <= least:
            return weights
        if not _is_new(gram, free, row):
            barred[row] = True
            continue
        free[row] = True
        ahead = _fit(gram, target, free)
        while (ahead < 0).any():
            share, falling = np.full(len(weights), np.inf), ahead < 0
            share[falling] = weights[falling] / (weights[falling] - ahead[falling])
            first = int(share.argmin())
            weights = weights + share[first] * (ahead - weights)
            free[first], weights[first] = False, 0.0
            barred[first] |= first == row  # only round-off can make the new weight 0 again at once
            ahead = _fit(gram, target, free)
        weights = ahead
