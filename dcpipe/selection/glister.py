"""GLISTER: images that lower the loss of held-out images most when the network takes a step on them.

Idea. Let the network take one gradient step on the picks, with weights W and step size eta:

    W(S) = W - eta sum over picks s of g_s                     g_s = gradient of the cross-entropy of image s at W

A good set makes the loss L_V of validation images at W(S) small. Adding x to S changes it by -eta g_x . grad L_V(W(S))
to first order, so the greedy choice is the image whose gradient has the largest inner product with that of the
validation loss after the step on the picks so far. As the loss of images like the picks falls, images of another kind
become more useful.

Formula. Only the last layer takes the step. With features h, probabilities p and e = p - y (`last_layer.py`), g is the
outer product of e and (h, 1), and the step changes the logits z of every validation image v to

    z_v(S) = z_v - eta sum over picks s of (h_s . h_v + 1) e_s

without its weights being known. With e_v(S) of these logits, the gain of x is

    eta (e_x^T G h_x + e_x . mean e_v(S))                       G = mean over v of e_v(S) h_v^T  [C, d]

Cost for a class of N images: 2 N C d + N (C + d) multiply-adds per pick. Memory: one class and its logits.

Paper: "GLISTER: Generalization based Data Subset Selection for Efficient and Robust Learning", Killamsetty,
Sivasubramanian, Ramakrishnan and Iyer, AAAI 2021 (Algorithm 2, GreedyDSS, with the Taylor approximation and one step of
the last layer). For the cross-entropy, the exact gain of the step is weakly submodular; its approximation follows it
only as far as eta is small. Choices:

* The paper trains on the picks and picks again every few epochs; here one trained teacher gives all gradients. It may
  be so sure of all images that gradients are tiny; then the picks are those with the longest gradients.
* Validation images are the candidates of the class themselves, as in DeepCore if it gets no validation set. Features of
  `minival` are not computed, and few of its images would be of any one class.
* `eta` is the learning rate of training in paper and code. Here features may have any length, so a good value depends
  on the teacher. The gradient of the sum over the picks is used, as in the paper; DeepCore uses their mean, so that its
  step gets no longer with more picks.
* The gradient of each candidate is that of the teacher and is not updated, as in paper and code.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.config.values import Positive
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class, softmax
from dcpipe.selection.last_layer import Gradients, errors_of
from dcpipe.types import FloatArray, IntArray

# Round-off relative to the largest product of lengths: inner products this close are a tie.
_TIE = 1e-10


@validated("selector 'glister'")
def glister(candidates: Candidates, ipc: int, seed: int, progress: Progress, *, eta: Positive = 0.1) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, and gains f64: by how many nats each pick lowers the mean
    cross-entropy of its class, to first order; a gain may be negative.

    `eta` is the size of the step. Ties go to the lower row. `seed` is not used, because nothing is random. A smaller
    `ipc` gives a prefix. `progress.earlier` is not used. Raises `DataError` if a class has fewer than `ipc` images.
    """

    def pick(label: int, n: int) -> tuple[IntArray, FloatArray]:
        return _step(candidates.class_logits(label), candidates.class_vectors(label), label, n, eta)

    return class_by_class(candidates, ipc, progress, pick)


def _step(logits: FloatArray, vectors: FloatArray, label: int, ipc: int, eta: float) -> tuple[IntArray, FloatArray]:
    """Rows i64 [ipc] of one class with `logits` [N, C] and `vectors` [N, d], and their gains f64 [ipc]."""
    targets = np.full(len(logits), label)
    errors = errors_of(softmax(logits), targets)
    lengths = np.sqrt(Gradients(errors, vectors, bias=True).squared_norms())
    rows, gains = np.empty(ipc, dtype=np.int64), np.empty(ipc)
    moved = logits.copy()
    for k in range(ipc):
        after = errors_of(softmax(moved), targets)
        slope, bias = after.T @ vectors / len(after), after.mean(axis=0)
        merit = np.einsum("nc,nc->n", errors, vectors @ slope.T) + errors @ bias
        merit[rows[:k]] = -np.inf
        least = _TIE * lengths.max() * float(np.sqrt((slope**2).sum() + (bias**2).sum()))
        rows[k] = np.argmax(merit >= merit.max() - least)
        gains[k] = eta * merit[rows[k]]
        moved -= eta * np.outer(vectors @ vectors[rows[k]] + 1, errors[rows[k]])
    return rows, gains
