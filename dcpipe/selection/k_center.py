"""k-center: images such that no image of the class is far from all of them.

Idea. The covering radius of picks S is max over images x of min over s in S of |x - s|. Farthest-first traversal
repeatedly picks the image that is farthest from its nearest pick. After k picks the radius is at most twice the
smallest radius of any k images, whichever image was first. For general metrics, no polynomial algorithm can guarantee a
smaller factor unless P = NP.

    d(x) = min over picks s of |x - s|^2       pick argmax d(x)       |x - s|^2 = |x|^2 + |s|^2 - 2 x . s

Cost for a class of N images: one matrix-vector product (N d multiply-adds) per pick. Memory: one class, twice.

Papers: Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 1985 (the
traversal and its bound); "Active Learning for Convolutional Neural Networks: A Core-Set Approach", Sener and Savarese,
ICLR 2018, Algorithm 1 (k-Center-Greedy), whose Theorem 1 bounds the loss that a subset leaves by its covering radius.

Where we differ from Sener and Savarese:

* They start from a labelled pool. Without one, their code starts from the first image and DeepCore from a random one.
  `start="medoid"` takes the image nearest to the mean of its class, which has the smallest sum of squared distances to
  all others. It is typical and not random. `start="random"` draws the first image.
* We select class by class to get a balanced set; they have one pool without labels.
* Vectors are scaled to unit length by default, as in SCORE and herding. They do not scale them (`normalise=False`), and
  then farthest-first prefers long vectors.
* Algorithm 2, an integer program that ignores outliers, is not implemented. The traversal prefers outliers: with few
  images per class, many picks are atypical.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from dcpipe.config.options import validated
from dcpipe.random import Draw, permutation
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

Start = Literal["medoid", "random"]

# Round-off of a squared distance relative to the largest squared length: closer ones are a tie, or 0.
_TIE = 1e-12


@validated("selector 'k_center'")
def k_center(
    candidates: Candidates,
    ipc: int,
    seed: int,
    progress: Progress,
    *,
    normalise: bool = True,
    start: Start = "medoid",
) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: how much each pick lowers the covering radius
    of its class; 0 for the first pick, before which there is no radius.

    `normalise`: vectors are first scaled to unit length. `start`: the first image of a class is its `medoid`, or a
    random one that depends on (`seed`, class); the seed has no other use. Ties go to the lower row, also when only
    copies of picks are left. A smaller `ipc` gives a prefix. `progress.earlier` is not used.

    Raises `DataError` for an unknown `start`, and if a class has fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        vectors = candidates.class_units(label) if normalise else candidates.class_vectors(label)
        if start == "medoid":
            return _traverse(vectors, n, None)
        order = permutation(seed, label, len(vectors), draw=Draw.K_CENTER_START)
        return _traverse(vectors, n, int(order[0]))

    return class_by_class(candidates, ipc, progress, pick)


def _traverse(vectors: FloatArray, ipc: int, first: int | None) -> tuple[IntArray, FloatArray]:
    """Rows i64 [ipc] for the vectors [N, d] of one class, and their gains f64 [ipc]; if `first` is None, the medoid is
    first."""
    # After subtracting the mean, lengths are of the order of the distances, so their difference loses few digits.
    moved = vectors - vectors.mean(axis=0)
    squares = np.einsum("nd,nd->n", moved, moved)
    tie = _TIE * np.einsum("nd,nd->n", vectors, vectors).max()
    rows = np.empty(ipc, dtype=np.int64)
    radii = np.empty(ipc)
    nearest = np.full(len(vectors), np.inf)
    free = np.full(len(vectors), True)
    row = int(np.argmax(squares <= squares.min() + tie)) if first is None else first
    for k in range(ipc):
        rows[k] = row
        free[row] = False
        squared = squares - 2 * (moved @ moved[row]) + squares[row]
        squared[squared <= tie] = 0.0  # otherwise the root of round-off, 1e-8, would count as a radius
        nearest = np.minimum(nearest, squared)
        radii[k] = np.sqrt(nearest.max())
        row = int(np.argmax(free & (nearest >= nearest.max() - tie)))
    return rows, -np.diff(radii, prepend=radii[0])
