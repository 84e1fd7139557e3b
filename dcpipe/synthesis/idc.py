"""IDC: gradient matching with several training images in each stored one (Kim et al., ICML 2022).

For each class, the gradient of the cross-entropy w.r.t. the convolution weights is matched between real and condensed
images (sum of squared differences), both under the same random colour shift, crop and cutout, for a network that is
being trained on real images. A stored image is a grid of `factor` x `factor` small ones (`views/multiformation.py`), so
students learn from factor^2 ipc images per class, with hard labels: `softlabels.method: none`, protocol `idc/...`.

Cost per inner step: one pass over the `real_batch` real and the condensed images of each class with a second
derivative, and training on `learn_images` images. The published setting has 200,000 inner steps (CIFAR-10: 11.5 hours,
according to the paper of MDC).

`lr` is the rate for 10 images per class and is scaled with ipc, as in the official code. Other settings of that code:
SVHN `learn_images` 500; MNIST and FashionMNIST `distance: l1`, lr 1e-4, `learn_images` 500; ImageNet-10 resnet10-ap,
l1, lr 3e-3, factor 3, 500 outer loops, `early` 10, `cutmix` 1, `learn_images` 500. That code starts from the first
images of each class; here they are drawn at random. It cuts the sides of CutMix's boxes to even numbers of pixels, as
`mix_box: even` does. `subsets`: options of MDC, see `mdc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.config.options import validated
from dcpipe.config.values import BelowOne, Count, GridSide, Natural, Network, Positive, Share, Strategy
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.gradients.choices import Choices, Nested, SubsetOptions, check_subsets
from dcpipe.synthesis.gradients.distances import Distance
from dcpipe.synthesis.gradients.engine import match
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.types import ImageSet, MixBox, require
from dcpipe.views.multiformation import Kind


def _together(*, kind: Kind, bound: int | None, subsets: Mapping[str, Any] | None, **others: Any) -> None:
    require(
        (kind == "bound") == (bound is not None),
        f"kind is {kind!r} and bound is {bound}; give a bound with kind 'bound' and with no other",
    )
    check_subsets(Nested.of(subsets), "gradients", kind)


@validated("synthesis method 'idc'", _together)
def idc(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: Network = "convnet-d3-w128",
    outer: Count = 2000,
    inner: Count = 100,
    lr: Positive = 5e-3,
    momentum: BelowOne = 0.5,
    distance: Distance = "mse",
    real_batch: Count = 64,
    cluster: Natural = 0,
    learn_images: Count = 2000,
    early: Natural = 0,
    cutmix: Share = 0.5,
    mix_box: MixBox = "rounded",
    strategy: Strategy = "color_crop_cutout",
    net_strategy: Strategy = "color_crop",
    factor: GridSide = 2,
    kind: Kind = "single",
    bound: Count | None = None,
    most: Count = 128,
    at_once: Count | None = None,
    subsets: SubsetOptions = None,
) -> ImageSet:
    """The optimised images, with grid `factor`. `gradients.choices` describes the options. Raises `DataError` for
    options out of range."""
    choices = Choices(
        network=network,
        outer=outer,
        inner=inner,
        lr=lr * len(start) / len(start.classes) / 10,
        momentum=momentum,
        distance=distance,
        sweeps=True,
        strategy=strategy,
        real_batch=real_batch,
        cluster=cluster,
        learn_images=learn_images,
        early=early,
        teaching=Teaching(batch=real_batch, strategy=net_strategy, cutmix=cutmix, mix_box=mix_box),
        initial="mix" if factor > 1 or cluster else "start",
        factor=factor,
        kind=kind,
        bound=bound,
        most=most,
        at_once=at_once,
        subsets=Nested.of(subsets),
    )
    return match(start, context, seed, progress, choices)
