"""ResNets and MobileNet-V2 with stems for small images (32 or 64 pixels).

As in the CIFAR experiments of He et al. (CVPR 2016) and the condensation papers: the 7x7 stride-2 stem and
its max pooling become one 3x3 stride-1 convolution; MobileNet-V2 keeps full resolution in its first two stages.
Everything else is torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torchvision import models


def _resnet(constructor: Callable[..., models.ResNet]) -> Callable[[int], nn.Module]:
    def make(n_classes: int) -> nn.Module:
        network: nn.Module = constructor(weights=None, num_classes=n_classes)
        stem = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        network.conv1, network.maxpool = stem, nn.Identity()
        return network

    return make


def _mobilenet_v2(n_classes: int) -> nn.Module:
    network: nn.Module = models.mobilenet_v2(weights=None, num_classes=n_classes)
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    for convolution in strided[:2]:
        convolution.stride = (1, 1)
    return network


SMALL: dict[str, Callable[[int], nn.Module]] = {
    "resnet18-small": _resnet(models.resnet18),
    "resnet50-small": _resnet(models.resnet50),
    "resnet101-small": _resnet(models.resnet101),
    "mobilenet_v2-small": _mobilenet_v2,
}


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None when `name` is not one of `SMALL`."""
    maker = SMALL.get(name)
    return maker(n_classes) if maker else None
