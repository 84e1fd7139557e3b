"""BADGE: images whose gradients are long and different from each other, by k-means++ seeding in gradient space.

Idea. Use the most likely class of each image under the teacher as its label. The last-layer gradient for that label is
long if the teacher is uncertain, and its direction is that in which the image would change the teacher. Start with the
longest gradient, then draw each next image with probability proportional to the squared distance to the nearest pick:

    D(i)^2 = min over picks j of |g_i|^2 + |g_j|^2 - 2 <g_i, g_j>         P(i) = D(i)^2 / sum of D^2

Short gradients lie close to each other around 0, so a batch is both uncertain and diverse, without any hyperparameter.

Cost for a class of N images: N (C + d) multiply-adds per pick (`last_layer.py`), because the C d numbers of an
embedding are never computed explicitly. Memory: one class.

Paper: "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", Ash et al., ICLR 2020, Algorithm 1 and
Sec. 3. Code: JordanAsh/badge. Choices:

* The paper draws a batch from one unlabelled pool, trains, and draws again. SCORE (Sec. 6.3) compares with a variant
  that draws once with a pretrained model, as we do. We draw class by class, according to the true labels, to get a
  balanced set; the labels of the gradients are still the hypothetical ones.
* The first pick is the longest gradient, as in the code; k-means++ itself draws it uniformly.
* The code's array named D2 holds distances, squared when drawing: proportional to D^2, as in the paper.
* Gradients are w.r.t. the weights only, as in paper and code; `bias` adds the gradient w.r.t. the bias.
* The code draws again until it gets a row that is not yet picked (its first version could return a row twice), and
  stops in the debugger if all distances are 0. Here picks have probability 0, and distances below round-off count as 0.
  If all distances are 0, so that only copies of picks remain, the lowest remaining rows are taken.
* Random numbers come from the counter-based generator, keyed by (seed, class, step), and are mapped to rows by the
  inverse of the cumulative sum.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.random import Draw, philox, uniform
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.selection.last_layer import Gradients, errors_of
from dcpipe.types import FloatArray, IntArray

# Round-off of a squared distance, relative to the squared lengths that it is computed from.
_ROUND_OFF = 1e-12


@validated("selector 'badge'")
def badge(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, bias: bool = False) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class; gains f64: the squared distance of each pick to the nearest
    earlier pick of its class, or to 0 for the first one.

    `bias` includes the gradient w.r.t. the bias of the last layer. Ties for the longest gradient go to the lower row. A
    smaller `ipc` gives a prefix; another order of the rows gives other random picks. Raises `DataError` for a class
    with fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        probabilities = candidates.class_probabilities(label)
        errors = errors_of(probabilities, probabilities.argmax(axis=1))
        draws = [float(uniform(philox(seed, label, Draw.BADGE + step, 0))[0]) for step in range(1, n)]
        return _seed(Gradients(errors, candidates.class_vectors(label), bias), draws)

    return class_by_class(candidates, ipc, progress, pick)


def _seed(gradients: Gradients, draws: list[float]) -> tuple[IntArray, FloatArray]:
    """k-means++ starting with the longest gradient; one further pick for each number in [0, 1) of `draws`."""
    norms = gradients.squared_norms()
    first = int((norms >= norms.max() * (1 - _ROUND_OFF)).argmax())
    rows, gains = [first], [norms[first]]
    nearest = np.full(len(norms), np.inf)
    for draw in draws:
        lengths = norms + norms[rows[-1]]
        distance = lengths - 2 * gradients.inner(rows[-1])
        nearest = np.minimum(nearest, np.where(distance > _ROUND_OFF * lengths, distance, 0.0))
        nearest[rows[-1]] = 0.0
        rows.append(_draw(nearest, draw) if nearest.any() else int(np.setdiff1d(np.arange(len(norms)), rows)[0]))
        gains.append(nearest[rows[-1]])
    return np.array(rows, dtype=np.int64), np.array(gains)


def _draw(weights: FloatArray, number: float) -> int:
    """The row where the cumulative sum of `weights` first exceeds the share `number`, in [0, 1), of its total."""
    able = np.flatnonzero(weights)
    total = np.cumsum(weights[able])
    place = int(np.searchsorted(total, number * total[-1], side="right"))
    return int(able[min(place, len(able) - 1)])  # the product may round up to the whole
