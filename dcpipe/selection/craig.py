"""CRAIG: images such that the gradient of every image of the class is near that of one of them.

Idea. Replace the gradient of each image by that of the pick that is nearest to it. The error of the sum of all
gradients is then at most

    L(S) = sum over images i of min over picks s in S of |g_i - g_s|

so a training step on the picks, each weighted by the number of images that it replaces, is near a step on all images.
Minimising L is facility location. With c, the largest distance between two images of the class, it is to maximise

    f(S) = sum over images i of max over picks s in S of (c - |g_i - g_s|),      f(no picks) = 0

which is monotone and submodular, so the greedy choice reaches at least (1 - 1/e) of the best value of any k images.
(The paper writes f as L of an auxiliary image at distance c from all others, minus L of this image and the picks.)

The gradient of a network is too long to compare, so the paper bounds the distances by those of a short part of it: the
gradient of the cross-entropy w.r.t. the input of the softmax, p - y. A teacher that is sure of all images of a class
has gradients near 0 that hardly differ; then c is small too, and the picks represent what differences remain.

Cost for a class of N images: N^2 C multiply-adds for the distances (N^2 (C + d) for `gradient="last_layer"`), and N^2
per pick. Memory: 8 N^2 bytes for the similarities and as much while they are computed, 400 MB for a class of 5,000.

Paper: "Coresets for Data-efficient Training of Machine Learning Models", Mirzasoleiman, Bilmes and Leskovec, ICML 2020,
Algorithm 1 and Sec. 3. DeepCore has it too. Choices:

* A condensed set has no weights: only the picks are used, and each counts once. The bound above is for weighted picks.
* The paper picks again after every few epochs; here one trained teacher gives all gradients.
* The paper also has stochastic and lazy versions of the greedy choice. Lazy evaluation gives the picks of the plain
  greedy choice, which is what we compute, for all images at once; the stochastic version gives worse ones.
* `gradient="last_layer"` compares the gradients w.r.t. the weights and the bias of the last layer, as DeepCore does,
  so that features count too. DeepCore's network applies the softmax twice, which we do not copy.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.selection.facility_location import locate
from dcpipe.selection.last_layer import errors_of
from dcpipe.types import FloatArray, IntArray

Gradient = Literal["logits", "last_layer"]

# Round-off of a squared distance, relative to the squared lengths that it is computed from. What is less counts as 0.
_ROUND_OFF = 1e-12
_TIE = 1e-9  # relative to the longest gradient, per image: the error of a distance that is just above round-off
_BLOCK = 2**22  # distances that are computed at a time


@validated("selector 'craig'")
def craig(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, gradient: Gradient = "logits") -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: how much each pick adds to f of its class.

    `gradient`: of the cross-entropy with the true class, w.r.t. the `logits`, or w.r.t. the weights and the bias of the
    `last_layer`. Ties go to the lower row. `seed` is not used, because nothing is random. A smaller `ipc` gives a
    prefix. `progress.earlier` is not used. Raises `DataError` if a class has fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        probabilities = candidates.class_probabilities(label)
        errors = errors_of(probabilities, np.full(len(probabilities), label))
        apart, longest = _distances(errors, candidates.class_vectors(label) if gradient == "last_layer" else None)
        np.subtract(apart.max(), apart, out=apart)
        return locate(apart, n, _TIE * longest)

    return class_by_class(candidates, ipc, progress, pick)


def _distances(errors: FloatArray, vectors: FloatArray | None) -> tuple[FloatArray, float]:
    """Distances f64 [N, N] between gradients, whose inner products are those of `errors` [N, C], times those of
    `vectors` [N, d] plus 1 if there are any; and the length of the longest gradient."""
    squares = np.einsum("nc,nc->n", errors, errors)
    if vectors is not None:
        squares = squares * (np.einsum("nd,nd->n", vectors, vectors) + 1)
    n = len(errors)
    apart, step = np.empty((n, n)), max(1, _BLOCK // n)
    for start in range(0, n, step):
        part = slice(start, start + step)
        inner = errors[part] @ errors.T
        if vectors is not None:
            inner *= vectors[part] @ vectors.T + 1
        lengths = squares[part, None] + squares
        squared = lengths - 2 * inner
        apart[part] = np.sqrt(np.where(squared > _ROUND_OFF * lengths, squared, 0.0))
    return apart, float(np.sqrt(squares.max()))
