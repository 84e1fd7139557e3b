"""DM: dataset condensation with distribution matching (Zhao & Bilen, WACV 2023).

The mean feature of each class's condensed images is drawn to that of its real ones, under the same augmentation, in a
fresh random network at every step: no network learns, and no second derivative is needed, so it is the cheapest of its
family. Images begin as real ones. lr 1 suits up to 50 images a class on CIFAR-10, 10 more. `subsets`: MDC's.
"""

from __future__ import annotations

from typing import Any, Literal

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.gradients.choices import Choices, Nested
from dcpipe.synthesis.gradients.engine import match
from dcpipe.types import ImageSet


def dm(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: str = "convnet-d3-w128",
    outer: int = 20_000,
    inner: int = 1,
    lr: float = 1.0,
    momentum: float = 0.5,
    real_batch: int = 256,
    strategy: str = "dsa:color_crop_cutout_flip_scale_rotate",
    initial: Literal["noise", "start"] = "start",
    most: int = 256,
    at_once: int | None = None,
    subsets: dict[str, Any] | None = None,
) -> ImageSet:
    """Matched images; see `gradients.choices` for the options. Raises `DataError` for those out of range."""
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
        most=most,
        at_once=at_once,
        subsets=Nested.of(subsets),
    )
    return match(start, context, seed, progress, choices)
