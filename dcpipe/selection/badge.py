"""BADGE: images whose gradients are long and unlike each other, by k-means++ seeding in gradient space.

Idea. Take each image's most likely class under the teacher for its label. The last-layer gradient with that label is
long where the teacher is unsure, and points where the image would move the teacher. Start with the longest gradient;
then draw each next image with probability proportional to the squared distance to the nearest pick:

    D(i)^2 = min over picks j of |g_i|^2 + |g_j|^2 - 2 <g_i, g_j>         P(i) = D(i)^2 / sum of D^2

Short gradients lie near each other, around 0, so a batch is uncertain and diverse at once, with nothing to tune.

Cost for a class of N images: N (C + d) multiply-adds a pick (`last_layer.py`), for the C d numbers of an embedding are
never written down. Memory: the class.

Paper: "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", Ash et al., ICLR 2020, Algorithm 1 and
Sec. 3. Code: JordanAsh/badge. Choices:

* The paper draws a batch from one unlabelled pool, trains, and draws again. SCORE (Sec. 6.3) compares with a variant
  whose model is pretrained, once; so does this. And it draws class by class, by the true labels, for a balanced set;
  the labels of the gradients stay the hypothetical ones.
* The first pick is the longest gradient, as in the code; k-means++ itself draws it uniformly.
* The code's array named D2 holds distances, squared when drawing: proportional to D^2, as in the paper.
* Gradients are those of the weights alone, as in paper and code; `bias` adds the bias's.
* The code draws again until it meets a row it does not have (its first version could return one twice), and halts in
  the debugger when all distances are 0. Here picks have probability 0, distances below round-off count as 0, and
  when all are 0, so that what remains are copies of picks, the lowest rows left are taken.
* Draws are the counter-based generator's words of (seed, class, step), through the inverse of the cumulative sum.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.random import Draw, philox, uniform
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class
from dcpipe.selection.last_layer import Gradients, errors_of
from dcpipe.types import FloatArray, IntArray

# Round-off of a squared distance, as a share of the squared lengths that it is the difference of.
_ROUND_OFF = 1e-12


@validated("selector 'badge'")
def badge(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, bias: bool = False) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image a class; gains f64: the squared distance of each pick to the nearest
    pick of its class before it, of the first to 0.

    `bias` counts the gradient of the last layer's bias in. Ties for the longest gradient go to the lower row. A smaller
    `ipc` gives a prefix; another order of the rows gives other draws. Raises `DataError` for a class with fewer than
    `ipc` images.
    """

    def pick(label: int) -> tuple[IntArray, FloatArray]:
        probabilities = candidates.class_probabilities(label)
        errors = errors_of(probabilities, probabilities.argmax(axis=1))
        draws = [float(uniform(philox(seed, label, Draw.BADGE + step, 0))[0]) for step in range(1, ipc)]
        return _seed(Gradients(errors, candidates.class_vectors(label), bias), draws)

    return class_by_class(candidates, ipc, progress, pick)


def _seed(gradients: Gradients, draws: list[float]) -> tuple[IntArray, FloatArray]:
    """k-means++ from the longest gradient on, one pick for each number in [0, 1) of `draws`."""
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
    """The row where the cumulative sum of `weights` first exceeds `number`, in [0, 1), of its total."""
    able = np.flatnonzero(weights)
    total = np.cumsum(weights[able])
    place = int(np.searchsorted(total, number * total[-1], side="right"))
    return int(able[min(place, len(able) - 1)])  # the product may round up to the whole
