"""Facility location: images such that every image of the class is similar to one of them.

Idea. Each image of a class is represented by its most similar pick, and the total similarity is maximised:

    f(S) = sum over images i of max over picks s in S of (1 + cos(x_i, x_s)),      f(no picks) = 0

1 + cos = 2 - |x_i - x_s|^2 / 2 for vectors of unit length, so this is k-medoids with squared distances. It favours
typical images and ignores outliers, unlike k-center, which depends on the image that is represented worst. f is
monotone and submodular, so the greedy choice, which adds the image with the largest gain, reaches at least (1 - 1/e) of
the best value of any k images.

Cost for a class of N images: N^2 d multiply-adds for the similarities and N^2 per pick. Memory: 8 N^2 bytes, 200 MB for
a class of 5,000.

Papers: Nemhauser, Wolsey and Fisher, "An analysis of approximations for maximizing submodular set functions", 1978 (the
greedy choice and its bound); for data subsets Wei, Iyer and Bilmes, "Submodularity in data subset selection and active
learning", ICML 2015. DeepCore offers it as one of its submodular functions.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

_TIE = 1e-12  # per image of the class: gains that are closer are tied
_BLOCK = 2**22  # similarities that are compared at a time


@validated("selector 'facility_location'")
def facility_location(candidates: Candidates, ipc: int, seed: int, progress: Progress) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: how much each pick adds to f of its class.

    Ties go to the lower row. `seed` is not used, because nothing is random. A smaller `ipc` gives a prefix.
    `progress.earlier` is not used. Raises `DataError` if a class has fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        units = candidates.class_units(label)
        return locate(1 + units @ units.T, n, _TIE)

    return class_by_class(candidates, ipc, progress, pick)


def locate(similar: FloatArray, ipc: int, tie: float) -> tuple[IntArray, FloatArray]:
    """The greedy choice for any similarities: rows i64 [ipc] and their gains f64 [ipc].

    `similar` f64 [N, N] is symmetric and not negative, so row z has the similarities of all images to candidate z.
    Gains that differ by less than `tie` per image are tied.
    """
    n = len(similar)
    rows, gains = np.empty(ipc, dtype=np.int64), np.empty(ipc)
    reached = np.zeros(n)  # the similarity of each image to its most similar pick
    step = max(1, _BLOCK // n)
    for k in range(ipc):
        more = np.concatenate(
            [np.maximum(similar[start : start + step] - reached, 0).sum(axis=1) for start in range(0, n, step)]
        )
        more[rows[:k]] = -np.inf
        rows[k] = np.argmax(more >= more.max() - tie * n)
        gains[k] = more[rows[k]]
        reached = np.maximum(reached, similar[rows[k]])
    return rows, gains
