"""Graph cut: images that are similar to their class and not to each other.

Idea. Make a graph of the images of a class, whose edges are similarities. Good picks have heavy edges to all images and
light ones among themselves:

    f(S) = sum over images i and picks s of (1 + cos(x_i, x_s)) - lam * sum over picks s, t of (1 + cos(x_s, x_t))

The second sum has every pair twice and each pick with itself. f is submodular for every lam >= 0, because similarities
are not negative: the more images are picked, the less another one adds. For lam <= 1/2 it is monotone as well, and the
greedy choice reaches at least (1 - 1/e) of the best value of any k images. For lam = 1, f is the weight of the edges
between the picks and all other images: the edges that a cut between them would go through, hence the name.

Formula. A candidate x adds the similarity to all images of the class, minus lam times what it has with the picks:

    N + x . sum of all x_i - lam (2 |S| + 2 x . sum of the picks + 1 + |x|^2)

so that, unlike in facility location, no similarities of pairs need to be computed, but also no image is represented by
one pick: an image far from all picks costs nothing extra.

The first sum grows with N. With few picks of a large class, a small lam changes nothing, and the picks are the images
that are nearest to the class mean; in order to get different ones, lam has to be of the order of N / ipc.

Cost for a class of N images: N d multiply-adds per pick. Memory: one class.

Paper: Iyer, Khargoankar, Bilmes and Asnani, "Submodular combinatorial information measures with applications in machine
learning", ALT 2021. DeepCore offers it as one of its submodular functions. Where we differ from its code:

* Its parameter is on the first sum, and its default is our lam = 1.
* It compares gradients. We compare feature vectors by 1 + cos, as in `facility_location`.
* It leaves out each pick with itself. For vectors of unit length, this changes f by 2 lam per pick, and no pick.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.config.values import NotNegative
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

_TIE = 1e-12  # relative to the largest gain that is possible: gains that are closer are tied


@validated("selector 'graph_cut'")
def graph_cut(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, lam: NotNegative = 1.0) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: how much each pick adds to f of its class;
    for lam above 1/2, a gain may be negative.

    `lam` weights the similarity of the picks to each other. Ties go to the lower row. `seed` is not used, because
    nothing is random. A smaller `ipc` gives a prefix. `progress.earlier` is not used. Raises `DataError` if a class has
    fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        return _cut(candidates.class_units(label), n, lam)

    return class_by_class(candidates, ipc, progress, pick)


def _cut(units: FloatArray, ipc: int, lam: float) -> tuple[IntArray, FloatArray]:
    """Rows i64 [ipc] of one class's unit vectors [N, d] and their gains f64 [ipc]."""
    n = len(units)
    more = n + units @ units.sum(axis=0) - lam * (1 + np.einsum("nd,nd->n", units, units))
    tie = _TIE * (2 * n + 4 * lam * ipc)
    rows, gains = np.empty(ipc, dtype=np.int64), np.empty(ipc)
    free = np.full(n, True)
    for k in range(ipc):
        best = more[free].max()
        rows[k] = np.argmax(free & (more >= best - tie))
        gains[k] = more[rows[k]]
        free[rows[k]] = False
        more = more - 2 * lam * (1 + units @ units[rows[k]])
    return rows, gains
