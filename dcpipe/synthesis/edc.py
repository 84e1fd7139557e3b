"""EDC: elucidating the design space of dataset condensation (Shao et al., NeurIPS 2024).

G-VBSM's matching with better design choices. Recovery starts from real images (`initial: real`, the picked images) or
from RDED's mosaics (`rded`), so half as many steps suffice. Statistics are matched per class as well as globally (Eq.
5: `alpha` 0.5). The logits of the observers are kept close to their logits for a running average of the images, which
makes the loss landscape flat (Eq. 7: `flat` 0.25, `decay` 0.99, `temperature` 4). Crops are weak (area at least
`crop_min`). Labels, students and schedules belong to other stages: see the protocols `edc/...`.

Where the official code differs from the paper, the default follows the paper and an option follows the code: `classes:
mixture` (one statistic of the batch against the mean of its classes), `variance: within` (class variances without the
variance between images), `swapped: true` (mean and variance of patch targets exchanged), `average: zero` (the running
average of the statistics starts at zero, and never settles in the 75 steps of CIFAR-10), `direction: code` (the KL
divergence in the other direction, divided by the number of classes), `flat: 0` (as in most of its scripts). 2,000
iterations, but 75 for CIFAR-10 (Table 18). All of these together are the method `edc-code`.

Table 4 compares other forms of flatness: `flatness: statistics` keeps the statistics of the images close to those of
their average (Eq. 6, where `decay` 0.999 and `flat` 0.025, 0.25 or 2.5 are tried; all layers have the same weight), and
`flatness: sam` is vanilla sharpness-aware minimisation in two passes, for which `flat` is its radius rho in normalised
pixels. (The paper prints 0.25 for it in the column of weights, and does not say what it is.)

Without an option: the code draws its initial images with replacement and flips them at random; here they are the
selection's, or different mosaics. It updates the average of the images (Eq. 7) before a step, here it is updated after
it. On CIFAR-100, Tiny-ImageNet and ImageNet-1K its scripts run on four GPUs, each of which matches the statistics of a
quarter of the batch (20 to 25 images); the paper's number, 80 or 100, is matched together here.

With one image per class, the variance of a class in a batch is that within a single image, but the target of Eq. 5
contains the variance between images. This target cannot be reached, which `variance: within` avoids.
"""

from __future__ import annotations

from typing import Literal

from dcpipe.config.options import validated
from dcpipe.config.values import BelowOne, Count, NotNegative, Positive, PositiveShare, Share, TeacherNames
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.initial import Initial
from dcpipe.synthesis.matching import Average, Matching
from dcpipe.synthesis.recovery import Recovery
from dcpipe.synthesis.regularisers import Direction, Flatness
from dcpipe.synthesis.statistics import Variance
from dcpipe.synthesis.weak_augmentation import WeakAugmentation
from dcpipe.types import ImageSet, Precision


@validated("synthesis method 'edc'")
def edc(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    observers: TeacherNames | None = None,
    iterations: Count = 2000,
    lr: Positive = 0.05,
    batch_size: Count = 100,
    weight: NotNegative = 0.01,
    alpha: Share = 0.5,
    classes: Literal["each", "mixture"] = "each",
    norms: Literal["running", "measured"] = "running",
    variance: Variance = "total",
    swapped: bool = False,
    first: NotNegative = 10.0,
    momentum: Share = 0.8,
    average: Average = "first",
    flat: NotNegative = 0.25,
    flatness: Flatness = "logits",
    decay: BelowOne = 0.99,
    temperature: Positive = 4.0,
    direction: Direction = "paper",
    patch: Count | None = None,
    crop_min: PositiveShare = 0.5,
    flip: Share = 0.5,
    initial: Initial = "real",
    factor: Count = 1,
    candidates: Count = 300,
    precision: Precision = "auto",
) -> ImageSet:
    """The recovered images. `weight` is that of the matching term and `first` that of its first layer; `factor` and
    `candidates` are options of `initial: rded`.

    Raises `DataError` for options out of range.
    """
    choices = Recovery(
        iterations=iterations,
        lr=lr,
        batch_size=batch_size,
        observers=observers,
        patch=patch,
        weight=weight,
        flat=flat,
        flatness=flatness,
        decay=decay,
        temperature=temperature,
        direction=direction,
        variance=variance,
        initial=initial,
        factor=factor,
        candidates=candidates,
        precision=precision,
        matching=Matching(alpha, classes, first, momentum, average, norms=norms, swapped=swapped),
        augmentation=WeakAugmentation(crop_min=crop_min, flip=flip),
    )
    return recover(start, context, seed, progress, choices)
