"""SRe2L: squeeze, recover, relabel (Yin, Xing & Shen, NeurIPS 2023).

One trained network is the observer. Cross-entropy turns noise into images of a class, while the inputs of the network's
batch norms are matched to the running mean and variance of its training (`matching.py` with alpha = 1). No real image
is used. A batch contains one image of each class. Relabelling is done by the softlabels stage. Cost: `iterations`
forward and backward passes per image.

Defaults are the paper's for ImageNet-1K, except for `jitter` (32 pixels there). Official settings for other datasets:
lr 0.1 and weight 1 (Tiny-ImageNet); 1,000 iterations, no crop, no flip and lr 0.25 (CIFAR-100).
"""

from __future__ import annotations

from dcpipe.config.options import validated
from dcpipe.config.values import Count, Natural, NotNegative, Positive, PositiveShare, Share, TeacherNames
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.initial import Initial
from dcpipe.synthesis.matching import Matching
from dcpipe.synthesis.recovery import Recovery
from dcpipe.synthesis.weak_augmentation import WeakAugmentation
from dcpipe.types import ImageSet, Precision


@validated("synthesis method 'sre2l'")
def sre2l(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    observers: TeacherNames | None = None,
    iterations: Count = 4000,
    lr: Positive = 0.25,
    batch_size: Count = 100,
    weight: NotNegative = 0.01,
    first: NotNegative = 10.0,
    crop_min: PositiveShare = 0.08,
    curriculum: Share = 0.0,
    flip: Share = 0.5,
    jitter: Natural = 4,
    initial: Initial = "noise",
    precision: Precision = "auto",
) -> ImageSet:
    """The recovered images. `weight` is that of the batch-norm term, `first` that of its first layer, and `curriculum`
    is described in `cda`. Several observers take turns (the paper has one). Raises `DataError` for options out of
    range."""
    choices = Recovery(
        iterations=iterations,
        lr=lr,
        batch_size=batch_size,
        observers=observers,
        layers="bn",
        weight=weight,
        initial=initial,
        precision=precision,
        order="rounds",
        matching=Matching(alpha=1.0, first=first),
        augmentation=WeakAugmentation(crop_min=crop_min, curriculum=curriculum, flip=flip, jitter=jitter),
    )
    return recover(start, context, seed, progress, choices)
