"""ResNet10-AP, the network of IDC and MDC for ImageNet subsets (Kim et al., ICML 2022), and thin versions for CPUs.

`resnet10-ap` is a ResNet with one basic block in each of four stages (64, 128, 256 and 512 channels). All convolutions
have stride 1. Average pooling halves the image instead, after the ReLU of the first convolution in a block and after
the 1x1 convolution of its shortcut. Group norm with one channel per group (instance norm with an affine map) replaces
batch norm, so the gradient of an image does not depend on the rest of its batch. The stem depends on the image size:

    up to 64 pixels   3x3 convolution
    up to 128         3x3 convolution, 2x2 average pooling
    larger            7x7 convolution, 4x4 average pooling

The mean over all pixels and one linear layer follow. Convolutions are initialised from N(0, 2 / (k^2 out)), the linear
layer by torch's default. An image of 224 pixels takes 1.82 G multiplications. `resnet10-ap-w8` has 8 channels in the
first stage, and so on.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from dcpipe.types import require

PATTERN = re.compile(r"resnet10-ap(?:-w(\d+))?")
WIDTH = 64
SMALL, MID = 64, 128  # the largest image sizes of the first and the second stem
# Three stages halve the image. Below 16 pixels the last one would have maps of one pixel, all of which instance norm
# makes equal: the network would give the same for every image.
LEAST = 16


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels, channels)


class PooledBlock(nn.Module):
    """relu(norm(conv(pool(relu(norm(conv(x)))))) + shortcut(x)).

    With `halve`, `pool` is a 2x2 average and the shortcut is norm(pool(conv1x1(x))); otherwise both are the identity.
    """

    def __init__(self, channels: int, planes: int, halve: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, padding=1, bias=False)
        self.norm1 = _norm(planes)
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.norm2 = _norm(planes)
        self.shortcut: nn.Module = nn.Identity()
        if halve:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, bias=False), nn.AvgPool2d(2), _norm(planes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[m, channels, h, w] -> [m, planes, h, w], or with half the height and width, rounded down."""
        changed = self.pool(torch.relu(self.norm1(self.conv1(inputs))))
        return torch.relu(self.norm2(self.conv2(changed)) + self.shortcut(inputs))


def _stem(width: int, size: int) -> list[tuple[str, nn.Module]]:
    kernel, pooled = (3, 1) if size <= SMALL else (3, 2) if size <= MID else (7, 4)
    layers: list[tuple[str, nn.Module]] = [
        ("conv1", nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=False)),
        ("norm1", _norm(width)),
        ("relu", nn.ReLU(inplace=True)),
    ]
    return layers if pooled == 1 else [*layers, ("pool", nn.AvgPool2d(pooled))]


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` has another form; raises `DataError` for images below 16 pixels."""
    match = PATTERN.fullmatch(name)
    if match is None:
        return None
    width = int(match[1] or WIDTH)
    require(width >= 1, f"network {name!r}: width must be at least 1")
    require(
        size >= LEAST,
        f"network {name!r} halves images 3 times and normalises maps of 2 x 2 pixels or more, so it needs at least "
        f"{LEAST} pixels, got {size}; choose convnet-dN-wN, or images.size {LEAST}",
    )
    layers = OrderedDict(_stem(width, size))
    channels = width
    for stage in range(4):
        layers[f"layer{stage + 1}"] = PooledBlock(channels, width * 2**stage, halve=stage > 0)
        channels = width * 2**stage
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, n_classes)}
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
