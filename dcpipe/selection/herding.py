"""Herding: after every pick, the mean of the picked images is as close as possible to the mean of their class.

Idea. A student that sees only the picks should see the same average features. Greedily and without replacement, pick k
+ 1 of a class with mean mu is

    argmin over x of | mu - (x + p_1 + ... + p_k) / (k + 1) |

Distances do not change when the class is shifted to mean 0. With y = x - mu and t the sum of y over the picks, it is
argmin |y + t|^2 = argmin |y|^2 + 2 y . t, and |t| / k is the distance between the means after k picks.

Cost for a class of N images: one matrix-vector product (N d multiply-adds) per pick. Memory: one class, twice.

Papers: "Herding Dynamical Weights to Learn", Welling, ICML 2009; as a method to select images "iCaRL: Incremental
Classifier and Representation Learning", Rebuffi et al., CVPR 2017, Algorithm 4; SCORE compares with it in Sec. 6.3.
There are two rules of this name, and the one above is iCaRL's:

* Welling updates a weight vector: w_0 = mu; pick argmax w . x; then w = w + mu - x. After k picks, w = (k + 1) mu minus
  their sum, and iCaRL's argmin is argmax w . x - |x|^2 / 2. For vectors of equal length both rules are the same.
  Otherwise Welling's rule prefers long vectors, and the mean approaches mu only in the long run.
* iCaRL scales vectors to unit length (`normalise`). We do too, and as in its code mu, their mean, is not scaled again.
* iCaRL's official code uses Welling's rule and may select an image again, which changes only the weight vector. The
  paper does not mention repeats. Here an image is picked at most once.
* The code of DeepCore, which others reuse, takes the argmax of the distance, i.e. the image that makes the mean worst.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

# Round-off of a squared distance relative to the largest squared length: closer ones are a tie.
_TIE = 1e-12


@validated("selector 'herding'")
def herding(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, normalise: bool = True) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: how much each pick reduces the distance
    between the mean of the picks and the mean of the class, where the mean of no picks is 0.

    So |mu| minus the first k gains of a class is the distance after k picks; a gain may be negative. `normalise`:
    vectors are first scaled to unit length. Ties go to the lower row. `seed` is not used, because nothing is random;
    all selectors have the same signature. A smaller `ipc` gives a prefix. `progress.earlier` is not used.

    Raises `DataError` if a class has fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        return _herd(candidates.class_units(label) if normalise else candidates.class_vectors(label), n)

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
