"""DATM's start: images that an expert predicts right, and the logits of soft labels that are learned with them.

"Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching", Guo et al., ICLR 2024, and its code.
Both use the weights of experts after their last epoch, on images without augmentation.

* The images of a class are tried in random order, and those that the first expert predicts right are taken; if there
  are too few, those that the second one predicts right, and so on. If all experts together leave a class short, which
  the code does not foresee, the first of the others fill it up.
* The logits of an image are the mean of those of all experts that predict it right. An image that none predicts right
  is a division by zero in the code; here it has the mean over all experts, in which the logit of its own class changes
  places with the largest one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch

from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.trajectories.experts import logits
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import IntArray


def mean_logits(
    student: Student, experts: Iterable[torch.Tensor], images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The first logits f32 [n, c] of normalised images f32 [n, 3, s, s] of classes i64 [n]; `experts` are weights
    [p]."""
    own = labels[:, None]
    total = right = everything = None
    count = 0
    for weights in experts:
        found = logits(student, weights, images.__getitem__, len(images)).double()
        hit = (found.argmax(1, keepdim=True) == own).double()
        total = hit * found if total is None else total + hit * found
        right = hit if right is None else right + hit
        everything = found if everything is None else everything + found
        count += 1
    assert total is not None and right is not None and everything is not None
    mean = everything / count
    top = mean.argmax(1, keepdim=True)
    best, its = mean.gather(1, top), mean.gather(1, own)
    exchanged = mean.scatter(1, top, its).scatter(1, own, best)
    return torch.where(right > 0, total / right.clamp(min=1), exchanged).float()


def predicted(student: Student, experts: Iterable[torch.Tensor], real: RealImages, labels: IntArray) -> IntArray:
    """Rows of different real images i64 [n], of the classes i64 [n], that experts predict right."""
    orders = {int(label): real.shuffled(int(label)) for label in np.unique(labels)}
    counts = {label: int((labels == label).sum()) for label in orders}
    chosen: dict[int, list[int]] = {label: [] for label in orders}

    def take(label: int, rows: IntArray) -> None:
        free = [int(row) for row in rows if int(row) not in chosen[label]]
        chosen[label] += free[: counts[label] - len(chosen[label])]

    for weights in experts:
        short = [label for label in orders if len(chosen[label]) < counts[label]]
        if not short:
            break
        for label in short:
            order = orders[label]
            found = logits(student, weights, partial(_some, real, order), len(order))
            take(label, order[(found.argmax(1) == label).cpu().numpy()])
    rows = np.empty(len(labels), dtype=np.int64)
    for label, order in orders.items():
        take(label, order)
        rows[labels == label] = chosen[label]
    return rows


def _some(real: RealImages, rows: IntArray, part: slice) -> torch.Tensor:
    return real.take(rows[part])
