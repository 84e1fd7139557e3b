"""DM: dataset condensation with distribution matching (Zhao & Bilen, WACV 2023).

For each class, the mean feature of the condensed images is moved towards that of the real images, under the same
augmentation, in a new random network at every step. No network is trained and no second derivative is needed, so DM is
the cheapest method of its family. Images start as real ones. On CIFAR-10, lr 1 suits up to 50 images per class, and lr
10 larger sets. Pixels are clipped when they are stored; `clip: step` as in `dc`. `subsets`: options of MDC, see `mdc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dcpipe.config.options import validated
from dcpipe.config.values import BelowOne, Count, Network, Positive, Strategy
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.gradients.choices import Choices, Clip, Nested, SubsetOptions, check_subsets
from dcpipe.synthesis.gradients.engine import match
from dcpipe.types import ImageSet


def _together(*, subsets: Mapping[str, Any] | None, **others: Any) -> None:
    check_subsets(Nested.of(subsets), "features", "single")


@validated("synthesis method 'dm'", _together)
def dm(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: Network = "convnet-d3-w128",
    outer: Count = 20_000,
    inner: Count = 1,
    lr: Positive = 1.0,
    momentum: BelowOne = 0.5,
    real_batch: Count = 256,
    strategy: Strategy = "dsa:color_crop_cutout_flip_scale_rotate",
    initial: Literal["noise", "start"] = "start",
    clip: Clip = "end",
    most: Count = 256,
    at_once: Count | None = None,
    subsets: SubsetOptions = None,
) -> ImageSet:
    """The optimised images. `gradients.choices` describes the options. Raises `DataError` for options out of range."""
    choices = Choices(
        network=network,
        outer=outer,
        inner=inner,
        lr=lr,
        momentum=momentum,
        match="features",
        space="normalised",
        strategy=strategy,
        real_batch=real_batch,
        learn="nothing",
        initial=initial,
        clip=clip,
        most=most,
        at_once=at_once,
        subsets=Nested.of(subsets),
    )
    return match(start, context, seed, progress, choices)
