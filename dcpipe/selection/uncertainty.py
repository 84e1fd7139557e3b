"""Images ranked by how certain the teacher is: four scores of its softmax probabilities p, each of which is a selector.

    least_confidence    1 - p_1                           p_1 >= p_2 >= ... are the probabilities in order
    margin              1 - (p_1 - p_2)
    entropy             - sum_j p_j log p_j
    el2n                | p - y |_2                       y is one-hot at the image's true class

All are 0 if the teacher is certain (and, for el2n, right) and grow with its uncertainty. Each class is ranked
separately and its first `ipc` images are taken. Nothing makes the picks diverse: copies of a hard image have the same
score and are taken together.

`order="hard"` takes the highest scores first, as uncertainty sampling and data pruning do. `order="easy"` takes the
lowest: Sorscher et al., "Beyond neural scaling laws: beating power law scaling via data pruning", NeurIPS 2022, show in
theory and practice that hard images should be retained if there are many, and easy ones if there are few. If most of a
set is pruned, as here, hard images alone are worse than random ones (Zheng et al., "Coverage-centric coreset selection
for high pruning rates", ICLR 2023).

Cost for a class of N images: its softmax and a sort, N c + N log N. Memory: a few arrays [N, c].

Papers: least confidence, Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994; margin,
Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001; entropy, and a
comparison, Settles, "Active learning literature survey", 2009, Sec. 3.1; as coreset choices, Coleman et al., "Selection
via proxy", ICLR 2020; EL2N, Paul et al., "Deep learning on a data diet", NeurIPS 2021, Sec. 2.

Where we differ:

* EL2N is the mean over some ten networks, a few epochs into training. Here it is the norm under a single, fully trained
  teacher. It has fitted most images, and high scores are those of images that were hardest to fit or are mislabelled.
  `least_confidence`, `margin` and `entropy` come from active learning, where labels are unknown; our teacher was
  trained with them.
* The papers rank all images together, which leaves few images of easy classes. Here every class gets `ipc` images.
* A converged teacher's p_1 is 1 to the last digit for many images. 1 - p_1 is therefore computed as the sum of the
  other probabilities, which is precise, so that `easy` can rank images that a subtraction would tie at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.types import FloatArray, IntArray

Order = Literal["hard", "easy"]


@validated("selector 'least_confidence'")
def least_confidence(
    candidates: Candidates, ipc: int, seed: int, progress: Progress, *, order: Order = "hard"
) -> Picks:
    """Ranked by the total probability of all classes except the likeliest, in [0, 1 - 1 / c]; see `ranked`."""
    return ranked(candidates, ipc, progress, order, lambda p, label: _but_the_likeliest(p).sum(axis=1))


@validated("selector 'margin'")
def margin(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, order: Order = "hard") -> Picks:
    """Ranked by 1 minus the margin between the two likeliest classes, in [0, 1]; see `ranked`."""

    def score(p: FloatArray, label: int) -> FloatArray:
        others = _but_the_likeliest(p)
        scores: FloatArray = others.sum(axis=1) + others.max(axis=1)
        return scores

    return ranked(candidates, ipc, progress, order, score)


@validated("selector 'entropy'")
def entropy(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, order: Order = "hard") -> Picks:
    """Ranked by the entropy of p in nats, in [0, log c]; see `ranked`."""

    def score(p: FloatArray, label: int) -> FloatArray:
        others = _but_the_likeliest(p)
        logs = np.log(others, out=np.zeros_like(others), where=others > 0)
        doubt = others.sum(axis=1)
        scores: FloatArray = -(others * logs).sum(axis=1) - (1 - doubt) * np.log1p(-doubt)
        return scores

    return ranked(candidates, ipc, progress, order, score)


@validated("selector 'el2n'")
def el2n(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, order: Order = "hard") -> Picks:
    """Ranked by the length of p - y for the true class, in [0, sqrt 2]; see `ranked`."""

    def score(p: FloatArray, label: int) -> FloatArray:
        error = p.copy()
        error[:, label] = 0.0
        error[:, label] = -error.sum(axis=1)
        scores: FloatArray = np.linalg.norm(error, axis=1)
        return scores

    return ranked(candidates, ipc, progress, order, score)


def ranked(
    candidates: Candidates, ipc: int, progress: Progress, order: Order, score: Callable[[FloatArray, int], FloatArray]
) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, highest score first (lowest if `order` is `easy`), and gains
    f64: the scores. `score(p, label)` f64 [N] is computed from the probabilities f64 [N, c] of a class.

    Ties go to the lower row. `seed` is not used, because nothing is random; all selectors have the same signature. A
    smaller `ipc` gives a prefix. `progress.earlier` is not used.

    Raises `DataError` if a class has fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        scores = score(candidates.class_probabilities(label), label)
        rows = np.argsort(-scores if order == "hard" else scores, kind="stable")[:n]
        return rows, scores[rows]

    return class_by_class(candidates, ipc, progress, pick)


def _but_the_likeliest(p: FloatArray) -> FloatArray:
    """A copy of probabilities [N, c] with the largest of every row set to 0."""
    others = p.copy()
    others[np.arange(len(p)), p.argmax(axis=1)] = 0.0
    return others
