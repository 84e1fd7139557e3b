"""The order of classes of a set, as a teacher sees it: a wrong one is the field's most reported bug, and silent.

The labels of a set are numbers; which class a number means is an assumption, which a teacher can refute. It classifies
the images, and the confusion of labels with its predictions must be near a permutation:

* The stated order is confirmed if predictions agree with it far more often than by chance, for most classes.
* Another order is found by linear assignment on half of the images of each class and tested on the other half, because
  an assignment fits any noise to some extent. It is taken as found only if it passes the same test there, and beats the
  stated order by `MARGIN` of the images.
* Otherwise nothing is proven. Images that were recovered from the statistics of one network often look like noise to
  another, and one image per class cannot prove an order that was found with it.

"Far more often than by chance" is a probability of at most `LEVEL` that predictions that do not depend on the label
agree so often. "Most classes" are more than half, for which the assumed class is the most frequent prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe import networks
from dcpipe.types import FloatArray, ImageSet, IntArray, Teacher

LEVEL, MARGIN, BATCH = 1e-3, 0.1, 128
_SHOWN = 20  # classes that a sentence lists


@dataclass(frozen=True, eq=False)
class ClassOrder:
    """What a teacher says of the order of C classes.

    `order` i64 [C]: the class that each label seems to mean, or None if nothing is proven; the identity confirms the
    stated one. `agreed`, `stated`: shares of images whose prediction is that class, and the stated class.
    """

    order: IntArray | None
    agreed: float
    stated: float

    @property
    def confirmed(self) -> bool:
        """Whether the stated order is right."""
        return self.order is not None and np.array_equal(self.order, np.arange(len(self.order)))

    def line(self, classes: Sequence[str]) -> str:
        """What was found, in words."""
        chance = 100 / len(classes)
        if self.order is None:
            return (
                f"the teacher agrees with {100 * self.stated:.1f} % of labels, and chance is {chance:.1f} %: it cannot "
                "tell the order of the classes"
            )
        if self.confirmed:
            return f"the teacher agrees with {100 * self.stated:.1f} % of labels (chance is {chance:.1f} %)"
        moved = [
            f"{label} ({classes[label]}) is {classes[meant]}"
            for label, meant in enumerate(self.order.tolist())
            if label != meant
        ]
        rest = f", and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        return (
            f"the teacher agrees with {100 * self.stated:.1f} % of labels, but with {100 * self.agreed:.1f} % in "
            f"another order: label {'; '.join(moved[:_SHOWN])}{rest}"
        )


def find_order(labels: IntArray, predictions: IntArray, n_classes: int) -> ClassOrder:
    """The order of classes from labels and predictions i64 [n], both in 0..n_classes - 1."""
    from scipy.optimize import linear_sum_assignment

    identity: IntArray = np.arange(n_classes)
    stated = float((predictions == labels).mean())
    first = ranks(labels) % 2 == 0
    second = ~first
    half = linear_sum_assignment(_confusion(labels[first], predictions[first], n_classes), maximize=True)[1]
    order: IntArray = linear_sum_assignment(_confusion(labels, predictions, n_classes), maximize=True)[1]
    agreed = float((predictions == order[labels]).mean())
    if agreed - stated > MARGIN:
        proven = _agrees(labels[second], predictions[second], half) and _agrees(labels, predictions, order)
        return ClassOrder(order if proven else None, agreed, stated)
    return ClassOrder(identity if _agrees(labels, predictions, identity) else None, agreed, stated)


def predict(teacher: Teacher, images: ImageSet, device: torch.device) -> IntArray:
    """The class of each image according to the teacher: i64 [n]. Images are resized to the side that it was trained
    on."""
    network = networks.from_teacher(teacher, device)
    found = []
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(images.images[start : start + BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
        if pixels.shape[-1] != teacher.size:
            side = (teacher.size, teacher.size)
            pixels = F.interpolate(pixels, side, mode="bilinear", align_corners=False, antialias=True)
        found.append(networks.mean_logits([network], [teacher], pixels).argmax(1).cpu().numpy())
    return np.concatenate(found)


def ranks(labels: IntArray) -> IntArray:
    """The place of each image among those of its label, from 0: i64 [n]."""
    order = np.argsort(labels, kind="stable")
    places = np.empty(len(labels), dtype=np.int64)
    places[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return places


def _confusion(labels: IntArray, predictions: IntArray, n_classes: int) -> FloatArray:
    """Images of each label with each prediction, f64 [C, C]."""
    counts = np.bincount(labels * n_classes + predictions, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.float64)


def _agrees(labels: IntArray, predictions: IntArray, order: IntArray) -> bool:
    """Whether predictions agree with an order far more often than by chance, and for most classes."""
    from scipy.special import bdtrc

    n, c = len(labels), len(order)
    if n == 0:
        return False
    confusion = _confusion(labels, predictions, c)[:, order]  # column k: predictions of what label k means
    chance = float((confusion.sum(0) / n) @ (confusion.sum(1) / n))
    hits = float(np.trace(confusion))
    tail = float(bdtrc(hits - 1, n, chance)) if hits else 1.0  # of a binomial distribution
    present = confusion.sum(1) > 0
    winning = (confusion.argmax(1) == np.arange(c)) & present
    return tail <= LEVEL and bool(2 * winning.sum() > present.sum())
