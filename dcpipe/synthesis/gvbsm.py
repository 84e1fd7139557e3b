"""G-VBSM: various backbones and statistical matching (Shao et al., CVPR 2024).

Several observers take turns. In addition to the inputs of batch norms, those of convolutions are matched, per channel
and per patch, to statistics that one pass over the real images has measured. The statistics of the batch are a running
average over steps, a share `drop` of the convolutions is left out of each step, and data densification prevents the
images of a class from becoming similar. (The average starts at zero in the official code: `average: zero`.)

Defaults are the official ones for 32-pixel images (64 pixels: `pad` 8; ImageNet-1K: lr 0.1, momentum 0.4, drop 0, `pad`
0 and `crop_min` 0.08), except for `jitter`: the official code rolls by up to 32 pixels at every size. Densification
sees the pixels themselves, in the code the augmented view; on real images the term is zero in both cases.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.options import validated
from dcpipe.config.values import Count, Natural, NotNegative, Positive, PositiveShare, Share, TeacherNames
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.initial import Initial
from dcpipe.synthesis.matching import Average, Matching
from dcpipe.synthesis.recovery import Recovery
from dcpipe.synthesis.weak_augmentation import WeakAugmentation
from dcpipe.types import ImageSet, Precision


def _together(*, crop_min: float, pad: int, **others: Any) -> None:
    WeakAugmentation(crop_min=crop_min, pad=pad)  # refuses crops of both kinds


@validated("synthesis method 'gvbsm'", _together)
def gvbsm(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    observers: TeacherNames | None = None,
    iterations: Count = 4000,
    lr: Positive = 0.05,
    batch_size: Count = 100,
    weight: NotNegative = 0.01,
    first: NotNegative = 10.0,
    momentum: Share = 0.8,
    average: Average = "first",
    drop: Share = 0.4,
    density: NotNegative = 1.0,
    patch: Count | None = None,
    pad: Natural = 4,
    crop_min: PositiveShare = 1.0,
    flip: Share = 0.5,
    jitter: Natural = 4,
    initial: Initial = "noise",
    precision: Precision = "auto",
) -> ImageSet:
    """The recovered images. `weight` is that of the matching term, `first` that of its first layer, and `density` that
    of densification.

    `patch`: side in pixels; None means 16 for images of at least 128 pixels, else 4. Raises `DataError` for options out
    of range.
    """
    choices = Recovery(
        iterations=iterations,
        lr=lr,
        batch_size=batch_size,
        observers=observers,
        patch=patch,
        weight=weight,
        density=density,
        initial=initial,
        precision=precision,
        matching=Matching(alpha=1.0, first=first, momentum=momentum, average=average, drop=drop),
        augmentation=WeakAugmentation(crop_min=crop_min, pad=pad, flip=flip, jitter=jitter),
    )
    return recover(start, context, seed, progress, choices)
