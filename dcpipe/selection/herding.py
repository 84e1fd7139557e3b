"""Herding: images whose mean is, after every pick, as near as it can be to the mean of their class.

Idea. A student that sees only the picks should meet the same average features. Greedily, without replacement, pick
k + 1 of a class with mean mu is

    argmin over x of | mu - (x + p_1 + ... + p_k) / (k + 1) |

Distances do not change when the class is moved to mean 0: with y = x - mu and t the sum of the picks' y, it is
argmin |y + t|^2 = argmin |y|^2 + 2 y . t, and |t| / k is the distance of the means after k picks.

Cost for a class of N images: one matrix-vector product, N d multiply-adds, a pick. Memory: the class, twice.

Papers: "Herding Dynamical Weights to Learn", Welling, ICML 2009; as a choice of images "iCaRL: Incremental Classifier
and Representation Learning", Rebuffi et al., CVPR 2017, Algorithm 4; SCORE compares with it in Sec. 6.3. Two rules go
by this name, and the one above is iCaRL's:

* Welling keeps a weight vector: w_0 = mu; pick argmax w . x; then w = w + mu - x. After k picks w = (k + 1) mu minus
  their sum, and iCaRL's argmin is argmax w . x - |x|^2 / 2. Vectors of equal length make them one rule. Otherwise
  Welling's prefers long vectors, and its mean comes near only in the long run.
* iCaRL scales vectors to unit length (`normalise`). We do too, and as in its code mu, their mean, is not scaled again.
* iCaRL's official code runs Welling's rule and may meet an image again: it takes no new place, but moves the weight.
  The paper is silent on repeats. Here an image counts once.
* The code of DeepCore, which others reuse, takes the argmax of the distance: the image that spoils the mean most.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

# Round-off of a squared distance, as a share of the largest squared length: closer ones are a tie.
_TIE = 1e-12


@validated("selector 'herding'")
def herding(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, normalise: bool = True) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image a class, and gains f64: by how much each pick brings the mean of the
    picks nearer to the mean of its class, where the mean of no picks is 0.

    So |mu| less the first k gains of a class is the distance after k picks; a gain may be negative. `normalise`: the
    vectors are scaled to unit length first. Ties go to the lower row. `seed` is unused, for nothing is random; it is
    there because all selectors are called alike. A smaller `ipc` gives a prefix. `progress.earlier` is not needed.

    Raises `DataError` when a class has fewer than `ipc` images.
    """

    def pick(label: int) -> tuple[IntArray, FloatArray]:
        return _herd(candidates.class_units(label) if normalise else candidates.class_vectors(label), ipc)

    return class_by_class(candidates, ipc, progress, pick)


def _herd(vectors: FloatArray, ipc: int) -> tuple[IntArray, FloatArray]:
    """Rows i64 [ipc] of one class's vectors [N, d] and their gains f64 [ipc]."""
    mean = vectors.mean(axis=0)
    moved = vectors - mean
    squares = np.einsum("nd,nd->n", moved, moved)
    tie = _TIE * np.einsum("nd,nd->n", vectors, vectors).max()
    rows = np.empty(ipc, dtype=np.int64)
    distances = np.empty(ipc + 1)
    distances[0] = np.linalg.norm(mean)
    total = np.zeros_like(mean)
    for k in range(ipc):
        cost = squares + 2 * (moved @ total)
        cost[rows[:k]] = np.inf
        rows[k] = np.argmax(cost <= cost.min() + tie)
        total += moved[rows[k]]
        distances[k + 1] = np.linalg.norm(total) / (k + 1)
    return rows, distances[:-1] - distances[1:]
