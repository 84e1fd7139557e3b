"""CAL: contrastive images, which the teacher sees as similar to others but predicts differently.

Idea. If two images have similar features but different predictions, the boundary between classes passes between them.
The score of an image x is the mean divergence of the predictions of its k nearest neighbours from its own:

    s(x) = 1/k sum over neighbours z of KL(p_z || p_x)            KL(q || p) = sum_j q_j (log q_j - log p_j)

Each class is ranked separately and its first `ipc` images are taken, highest score first. Like the scores of
`uncertainty.py`, it rates images one by one, so nothing makes the picks diverse. Unlike them, it rates an image that is
as uncertain as all of its neighbours low.

Cost for a class of N images: N^2 d multiply-adds and a sort per image for the neighbours, and k N C. Memory: a few
arrays [N, C] and one class of vectors.

Paper: "Active Learning by Acquiring Contrastive Examples", Margatina, Vernikos, Barrault and Aletras, EMNLP 2021,
Algorithm 1. Where we differ:

* The neighbours of an unlabelled image are labelled ones there, of any class. Here all images have labels, and the
  neighbours are other images of the same class, as in DeepCore, because a selector reads one class at a time. So a
  high score means an exception in its class.
* DeepCore's code uses the symmetric divergence, and takes the images with the lowest scores (its order is reversed).
  We use the paper's, and `order="easy"` takes the lowest.
* Features and predictions are those of one teacher, as in the paper; DeepCore takes neighbours in the features of a
  second network, pretrained on ImageNet.
* Vectors are scaled to unit length by default, as in the other selectors; the paper does not (`normalise=False`).
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.config.values import Count
from dcpipe.selection.base import Candidates, Picks, Progress
from dcpipe.selection.uncertainty import Order, ranked
from dcpipe.types import FloatArray, IntArray

_DIGITS = 12  # of squared distances relative to the largest squared length: those that agree are a tie
_BLOCK = 2**22  # distances that are computed at a time


@validated("selector 'cal'")
def cal(
    candidates: Candidates,
    ipc: int,
    seed: int,
    progress: Progress,
    *,
    neighbours: Count = 10,
    normalise: bool = True,
    order: Order = "hard",
) -> Picks:
    """Ranked by the mean KL divergence, in nats, of the predictions of the nearest neighbours from the image's own; see
    `uncertainty.ranked`.

    `neighbours`: how many, or all other images of the class if it has fewer; an image that is alone has the score 0. Of
    equally near ones, the lower rows are taken. `normalise`: vectors are first scaled to unit length.
    """

    def score(p: FloatArray, label: int) -> FloatArray:
        vectors = candidates.class_units(label) if normalise else candidates.class_vectors(label)
        nearest = _nearest(vectors, min(neighbours, len(p) - 1))
        logs = candidates.class_log_probabilities(label)
        total = np.zeros(len(p))
        for others in nearest.T:
            total += np.maximum((p[others] * (logs[others] - logs)).sum(axis=1), 0.0)  # below 0 by round-off only
        scores: FloatArray = total / max(1, nearest.shape[1])
        return scores

    return ranked(candidates, ipc, progress, order, score)


def _nearest(vectors: FloatArray, k: int) -> IntArray:
    """The rows of the k nearest other vectors of each of the vectors [N, d], nearest first, i64 [N, k]."""
    n = len(vectors)
    moved = vectors - vectors.mean(axis=0)
    squares = np.einsum("nd,nd->n", moved, moved)
    scale = np.einsum("nd,nd->n", vectors, vectors).max() or 1.0
    nearest, step = np.empty((n, k), dtype=np.int64), max(1, _BLOCK // n)
    for start in range(0, n, step):
        own = np.arange(start, min(start + step, n))
        squared = squares[own, None] - 2 * (moved[own] @ moved.T) + squares
        squared = np.round(squared / scale, _DIGITS)
        squared[np.arange(len(own)), own] = np.inf
        nearest[own] = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return nearest
