"""Last-layer gradients of the images of one class, represented by their inner products only.

Idea. Let an image have feature vector h [d] and teacher probabilities p [C]. The gradient of its cross-entropy with
target y with respect to the last layer's weights is the outer product of e = p - y and h, and with respect to its bias
it is e. So the C d numbers of a gradient need not be computed explicitly:

    <g_i, g_j> = (e_i . e_j) (h_i . h_j + 1)                    without the bias, no + 1
    <g_i, b>   = e_i^T B h_i + e_i . mean e                     b = mean gradient, B = mean of e h^T  [C, d]

Cost for N images: N (C + d) multiply-adds for the inner products with one of them, 2 N C d for those with the mean.
Memory: N (C + d) numbers, and C d for B.

Papers that use them: GRAD-MATCH (Killamsetty et al., ICML 2021, the "last layer gradients" of its Sec. 4) and BADGE
(Ash et al., ICLR 2020, Sec. 3). The entries of e sum to 0, so the entry at the target is computed as minus the sum of
the others. Otherwise p - 1 would round to 0 for an image that the teacher is certain about, and its gradient would lose
its direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcpipe.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of N images: `errors` f64 [N, C] (e), `vectors` f64 [N, d] (h), `bias`: whether to include the bias."""

    errors: FloatArray
    vectors: FloatArray
    bias: bool

    def inner(self, row: int) -> FloatArray:
        """<g_i, g_row> for every i, f64 [N]."""
        column: FloatArray = (self.errors @ self.errors[row]) * (self.vectors @ self.vectors[row] + self.bias)
        return column

    def squared_norms(self) -> FloatArray:
        """|g_i|^2, f64 [N]."""
        errors = np.einsum("nc,nc->n", self.errors, self.errors)
        norms: FloatArray = errors * (np.einsum("nd,nd->n", self.vectors, self.vectors) + self.bias)
        return norms

    def inner_with_mean(self) -> FloatArray:
        """<g_i, mean of all g>, f64 [N]."""
        mean = self.errors.T @ self.vectors / len(self.errors)
        inner: FloatArray = np.einsum("nd,nd->n", self.errors @ mean, self.vectors)
        return inner + self.errors @ self.errors.mean(axis=0) if self.bias else inner


def errors_of(probabilities: FloatArray, targets: IntArray) -> FloatArray:
    """e = p - y, f64 [N, C], from `probabilities` [N, C], whose rows sum to 1, and one target class per row, i64
    [N]."""
    errors, rows = probabilities.copy(), np.arange(len(targets))
    errors[rows, targets] = 0.0
    errors[rows, targets] = -errors.sum(axis=1)
    return errors
