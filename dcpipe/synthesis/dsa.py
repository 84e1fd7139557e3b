"""DSA: DC under augmentation that real and condensed images share (Zhao & Bilen, ICML 2021).

As `dc`, but both sides of the match see one random operation out of `strategy` with the same draw, so that the images
are good under augmentation as well; the network learns from augmented condensed images, and these begin as real ones.
"""

from __future__ import annotations

from typing import Any, Literal

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.dc import dc
from dcpipe.types import ImageSet


def dsa(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: str = "convnet-d3-w128",
    outer: int = 1000,
    inner: int | None = None,
    learn_epochs: int | None = None,
    lr: float = 0.1,
    momentum: float = 0.5,
    real_batch: int = 256,
    strategy: str = "dsa:color_crop_cutout_flip_scale_rotate",
    initial: Literal["noise", "start"] = "start",
    most: int = 256,
    at_once: int | None = None,
    subsets: dict[str, Any] | None = None,
) -> ImageSet:
    """Matched images; options as in `dc` (digits: a strategy without flip). Raises `DataError` for those out of
    range."""
    return dc(
        start,
        context,
        seed,
        progress,
        network=network,
        outer=outer,
        inner=inner,
        learn_epochs=learn_epochs,
        lr=lr,
        momentum=momentum,
        real_batch=real_batch,
        strategy=strategy,
        initial=initial,
        most=most,
        at_once=at_once,
        subsets=subsets,
    )
