"""DREAM: IDC with representative real images (Liu et al., ICCV 2023).

A random batch of a class is a poor picture of it, so gradients swing. Here every `cluster` inner steps each class's
features, by the network as it stands, are clustered into `real_batch` clusters (k-means), and the images nearest to the
centroids are the real batch until the next time (`representatives.py`). Images begin the same way: with those nearest
to the centroids that a random network's features give. Everything else is IDC's; the paper needs an eighth of its
loops.

Cost beside IDC's: one look at all real images and a k-means of each class every `cluster` steps.
"""

from __future__ import annotations

from typing import Any

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.idc import idc
from dcpipe.types import ImageSet
from dcpipe.views.multiformation import Kind


def dream(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: str = "convnet-d3-w128",
    outer: int = 2000,
    inner: int = 100,
    lr: float = 5e-3,
    momentum: float = 0.5,
    distance: str = "mse",
    real_batch: int = 128,
    cluster: int = 10,
    learn_images: int = 2000,
    early: int = 0,
    cutmix: float = 0.5,
    strategy: str = "color_crop_cutout",
    net_strategy: str = "color_crop",
    factor: int = 2,
    kind: Kind = "single",
    bound: int | None = None,
    most: int = 128,
    at_once: int | None = None,
    subsets: dict[str, Any] | None = None,
) -> ImageSet:
    """Matched images of grid `factor`; options as in `idc`. Raises `DataError` for those out of range."""
    options: dict[str, Any] = {
        "network": network,
        "outer": outer,
        "inner": inner,
        "lr": lr,
        "momentum": momentum,
        "distance": distance,
        "real_batch": real_batch,
        "cluster": cluster,
        "learn_images": learn_images,
        "early": early,
        "cutmix": cutmix,
        "strategy": strategy,
        "net_strategy": net_strategy,
        "factor": factor,
        "kind": kind,
        "bound": bound,
        "most": most,
        "at_once": at_once,
        "subsets": subsets,
    }
    return idc(start, context, seed, progress, **options)
