"""GraNd: images ranked by the length of the gradient that they cause.

Idea. An image whose gradient is short hardly changes the network, so it can be left out. The score of an image is the
length of the gradient of its cross-entropy with the true class; of the last layer's weights and bias it is, with the
feature vector h and the probabilities p of the teacher,

    |p - y| sqrt(|h|^2 + 1)

that is, EL2N (`uncertainty.py`) times the length of the features. As there, each class is ranked separately, copies of
an image are taken together, and `order="easy"` takes the lowest scores, which are better for small sets.

Cost for a class of N images: its softmax, N d and a sort. Memory: a few arrays [N, C] and one class of vectors.

Paper: "Deep Learning on a Data Diet: Finding Important Examples Early in Training", Paul, Ganguli and Dziugaite,
NeurIPS 2021, Definition 2.1. Where we differ:

* The score is the expectation over networks with other initial weights (ten in the paper), a few epochs into training.
  The features of one teacher are what selection gets, and it is fully trained, so this is the score under this teacher.
* It is the gradient of all weights. Here it is that of the last layer, as in DeepCore.
* The paper ranks all images together, which leaves few images of easy classes. Here every class gets `ipc` images.
* What the paper reports for scores at initialisation did not repeat (Kirsch, "Does 'Deep Learning on a Data Diet'
  reproduce? Overall yes, but GraNd at Initialization does not", 2023); nothing here uses an untrained network.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.selection.base import Candidates, Picks, Progress
from dcpipe.selection.last_layer import Gradients, errors_of
from dcpipe.selection.uncertainty import Order, ranked
from dcpipe.types import FloatArray


@validated("selector 'grand'")
def grand(
    candidates: Candidates, ipc: int, seed: int, progress: Progress, *, order: Order = "hard", bias: bool = True
) -> Picks:
    """Ranked by the length of the last layer's gradient; see `uncertainty.ranked`. `bias` includes the gradient w.r.t.
    the bias; without it, the score is |p - y| |h|."""

    def score(p: FloatArray, label: int) -> FloatArray:
        gradients = Gradients(errors_of(p, np.full(len(p), label)), candidates.class_vectors(label), bias)
        lengths: FloatArray = np.sqrt(gradients.squared_norms())
        return lengths

    return ranked(candidates, ipc, progress, order, score)
