"""Contextual diversity: images whose predictions differ, by farthest-first traversal in the space of predictions.

Idea. What a teacher confuses an image with says in which context it saw the class. Two images of a class are different
if their predictions p and q are, by the symmetric Kullback-Leibler divergence

    D(p, q) = KL(p || q) / 2 + KL(q || p) / 2 = 1/2 sum_j (p_j - q_j) (log p_j - log q_j)

The traversal of `k_center` then repeatedly picks the image that is farthest from its nearest pick. Logarithms weigh
rare confusions: probabilities of 1e-6 and 1e-3 for a class differ as much as 0.001 and 1 in log p, though the factor
p - q is small. D is not a metric, because the triangle inequality fails, so the bound of `k_center` does not hold.

Formula. The first pick has the smallest sum of divergences to all images of the class. With the class means m of p and
l of log p, the mean divergence of an image is

    1/2 sum_j (p_j - m_j) (log p_j - l_j)   +   the mean of the same over all images

so no pairs need to be computed.

Cost for a class of N images: N C multiply-adds per pick. Memory: a few arrays [N, C]; feature vectors are not used.

Paper: "Contextual Diversity for Active Learning", Agarwal, Arora, Anand and Arora, ECCV 2020 (CDAL-CS, which replaces
the distance of Sener and Savarese's core-set selection). Where we differ:

* An image has several regions there, whose predictions are mixed by their entropy for each predicted class, and D is
  summed over the classes that both images have. For one prediction per image, that is D as above (as in DeepCore).
* They start from labelled images, DeepCore from a random one, and we from the image with the smallest sum.
* We select class by class to get a balanced set. The paper's other variant, CDAL-RL, trains a network to select.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

# Divergences whose difference is smaller, relative to the largest one, are a tie. There is no absolute round-off: the
# predictions of a sure teacher differ by very little, but precisely.
_TIE = 1e-10


@validated("selector 'contextual_diversity'")
def contextual_diversity(candidates: Candidates, ipc: int, seed: int, progress: Progress) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: by how many nats each pick lowers the largest
    divergence of an image of its class from its nearest pick; 0 for the first pick, before which there is none.

    Ties go to the lower row, also when only copies of picks are left. `seed` is not used, because nothing is random. A
    smaller `ipc` gives a prefix. `progress.earlier` is not used. Raises `DataError` if a class has fewer than `ipc`
    images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        return _traverse(candidates.class_probabilities(label), candidates.class_log_probabilities(label), n)

    return class_by_class(candidates, ipc, progress, pick)


def _traverse(p: FloatArray, logs: FloatArray, ipc: int) -> tuple[IntArray, FloatArray]:
    """Rows i64 [ipc] for the probabilities [N, C] of one class and their logarithms, and their gains f64 [ipc]."""
    spread = ((p - p.mean(axis=0)) * (logs - logs.mean(axis=0))).sum(axis=1)
    row = int(np.argmax(spread <= spread.min() + _TIE * np.abs(spread).max()))
    rows, radii = np.empty(ipc, dtype=np.int64), np.empty(ipc)
    nearest, free = np.full(len(p), np.inf), np.full(len(p), True)
    for k in range(ipc):
        rows[k] = row
        free[row] = False
        apart = ((p - p[row]) * (logs - logs[row])).sum(axis=1) / 2
        nearest = np.minimum(nearest, np.maximum(apart, 0.0))  # below 0 by round-off only
        radii[k] = nearest.max()
        row = int(np.argmax(free & (nearest >= (1 - _TIE) * radii[k])))
    return rows, -np.diff(radii, prepend=radii[0])
