"""Scores that compare condensed sets fairly: DD-Ranking's label-robust and augmentation-robust scores, and accuracy at
equal compute. All are functions of accuracies that have been measured; nothing is trained here.

DD-Ranking (arXiv 2505.13300) asks how much of an accuracy is owed to the images. Soft labels and augmentation raise the
accuracy of any images, of random ones too, so both scores measure what a set has beyond them.

* Label-robust score (LRS). The recovery with hard labels is HLR = (all training images) - (the set), both with hard
  labels; the improvement over random is IOR = (the set) - (random images), both with the labels of the set. Then
  alpha = w IOR - (1 - w) HLR with w = 1/2.
* Augmentation-robust score (ARS). beta = w (the set - random images, with augmentation) + (1 - w) (the same without).
* Both are mapped from [-1, 1] to [0, 1] by x -> (e^x - e^-1) / (e - e^-1), which gives 0.2689 for 0: a set no better
  than random images.

Accuracies are FRACTIONS in [0, 1], because the map only makes sense for these. The code of DD-Ranking (0.2.0) passes
percentages to the same formula, which makes 9,371 of an alpha of ten points; its text defines fractions. A score is
computed for each run, and runs are then averaged; the standard deviation is that of a population (divided by n), as in
its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import e, isfinite

import numpy as np
from numpy.typing import ArrayLike

from dcpipe.types import FloatArray, require

WEIGHT = 0.5
Curve = Sequence[tuple[int, float]]  # (epochs done, accuracy) of each test


@dataclass(frozen=True, eq=False)
class RunScores:
    """One score per run, f64 [r], in [0, 1]. DD-Ranking prints them times 100."""

    scores: FloatArray

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over runs: 0 for one run."""
        return float(self.scores.std())


def hard_label_robust(
    all_hard: ArrayLike, set_hard: ArrayLike, random_hard: ArrayLike, weight: float = WEIGHT
) -> RunScores:
    """LRS of a set with hard labels. Accuracies are fractions, one per run [r], or one number for all runs.

    Args:
        all_hard: of students trained on all training images.
        set_hard: on the set.
        random_hard: on as many random training images.
        weight: w in [0, 1] of the improvement over random.

    Raises `DataError` for a percentage, and for numbers of runs that differ.
    """
    whole, ours, random = _runs(all_hard=all_hard, set_hard=set_hard, random_hard=random_hard, weight=weight)
    return RunScores(_normalised(weight * (ours - random) - (1 - weight) * (whole - ours)))


def label_robust(
    all_hard: ArrayLike, set_hard: ArrayLike, set_soft: ArrayLike, random_soft: ArrayLike, weight: float = WEIGHT
) -> RunScores:
    """LRS of a set with soft labels, as `hard_label_robust`.

    `set_hard`: accuracies on the images of the set with the classes as labels; `set_soft`: on the set with its soft
    labels; `random_soft`: on random training images with soft labels of the same kind.
    """
    whole, hard, soft, random = _runs(
        all_hard=all_hard, set_hard=set_hard, set_soft=set_soft, random_soft=random_soft, weight=weight
    )
    return RunScores(_normalised(weight * (soft - random) - (1 - weight) * (whole - hard)))


def augmentation_robust(
    set_augmented: ArrayLike,
    random_augmented: ArrayLike,
    set_plain: ArrayLike,
    random_plain: ArrayLike,
    weight: float = WEIGHT,
) -> RunScores:
    """ARS of a set, as `hard_label_robust`. All accuracies are with labels of the kind that the set has: hard or soft.

    `set_augmented`, `random_augmented`: with the augmentation of the set; `set_plain`, `random_plain`: without any.
    """
    augmented, random, plain, random_bare = _runs(
        set_augmented=set_augmented,
        random_augmented=random_augmented,
        set_plain=set_plain,
        random_plain=random_plain,
        weight=weight,
    )
    return RunScores(_normalised(weight * (augmented - random) + (1 - weight) * (plain - random_bare)))


def _normalised(values: FloatArray) -> FloatArray:
    return (np.exp(values) - 1 / e) / (e - 1 / e)


def _runs(*, weight: float, **accuracies: ArrayLike) -> list[FloatArray]:
    """The accuracies as f64 [r] each, after checks."""
    require(0 <= weight <= 1, f"robust score: weight is {weight}; give a number in 0..1")
    arrays = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in accuracies.items()}
    for name, values in arrays.items():
        inside = values.ndim == 1 and len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())
        require(
            inside,
            f"robust score: {name} is {values.tolist()}; give fractions in 0..1, which is percent divided by 100",
        )
    lengths = {len(values) for values in arrays.values()} - {1}
    counts = ", ".join(f"{name} {len(values)}" for name, values in arrays.items())
    require(len(lengths) <= 1, f"robust score: runs differ in number ({counts}); give one accuracy per run, or one")
    return [np.broadcast_to(values, max(lengths, default=1)) for values in arrays.values()]


def within_compute(curve: Curve, images_per_epoch: int, images_seen: int) -> float | None:
    """The accuracy at the last test at which a student had seen at most `images_seen` images.

    Images seen are epochs times `images_per_epoch`, the training images of an epoch after grids are decoded. Nothing is
    interpolated, because between two tests no student exists; None if the first test comes later. A student that is
    stopped before its schedule ends has not annealed its learning rate, so this is a lower bound of what the same
    compute reaches with a schedule of its own.

    Raises `DataError` for a curve whose epochs do not rise from 1, and for counts below 1.
    """
    _check_curve(curve, images_per_epoch)
    require(images_seen >= 1, f"equal compute: images_seen is {images_seen}; give 1 or more")
    reached = [accuracy for epoch, accuracy in curve if epoch * images_per_epoch <= images_seen]
    return reached[-1] if reached else None


def at_equal_compute(curves: Mapping[str, tuple[Curve, int]]) -> tuple[int, dict[str, float | None]]:
    """Images seen by the student that saw the fewest in its whole training, and the accuracy of each at that number.

    `curves`: by name, the learning curve and the images per epoch; see `within_compute`.
    """
    require(bool(curves), "equal compute: there is no learning curve; give at least one")
    for curve, images_per_epoch in curves.values():
        _check_curve(curve, images_per_epoch)
    seen = min(curve[-1][0] * images_per_epoch for curve, images_per_epoch in curves.values())
    return seen, {name: within_compute(curve, each, seen) for name, (curve, each) in curves.items()}


def _check_curve(curve: Curve, images_per_epoch: int) -> None:
    epochs = [epoch for epoch, _ in curve]
    rising = bool(epochs) and epochs[0] >= 1 and all(a < b for a, b in pairwise(epochs))
    require(rising, f"equal compute: the tests are after epochs {epochs}; give at least one, rising from 1")
    require(all(isfinite(accuracy) for _, accuracy in curve), "equal compute: an accuracy is NaN; train it again")
    require(images_per_epoch >= 1, f"equal compute: images_per_epoch is {images_per_epoch}; give 1 or more")
