"""Wide residual networks `wrn-D-K`, e.g. `wrn-16-2` (Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016).

With depth D = 6n + 4, a 3x3 stem with 16 channels is followed by three groups of n pre-activation blocks with 16K, 32K
and 64K channels. In a block, batch norm and ReLU come before each of two 3x3 convolutions. The second and the third
group halve the image. The network ends in batch norm, ReLU, the mean over all pixels and one linear layer; it has no
dropout. Because of the mean, it works for any image size. `wrn-10-1` is small enough for CPUs.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from dcpipe.types import require

PATTERN = re.compile(r"wrn-(\d+)-(\d+)")
STEM_CHANNELS = 16


class WideBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))). If the shape changes, a 1x1 convolution of relu(bn(x)) replaces x."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        same = stride == 1 and channels == planes
        self.shortcut = None if same else nn.Conv2d(channels, planes, 1, stride, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[m, channels, h, w] -> [m, planes, h / stride, w / stride]."""
        active = torch.relu(self.bn1(inputs))
        skipped = inputs if self.shortcut is None else self.shortcut(active)
        changed: torch.Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return changed + skipped


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` has another form; raises `DataError` for a depth that is not 6n + 4."""
    match = PATTERN.fullmatch(name)
    if match is None:
        return None
    depth, width = int(match[1]), int(match[2])
    valid = depth >= 10 and (depth - 4) % 6 == 0
    require(valid, f"network {name!r}: depth must be 6n + 4 with n at least 1, such as 10, 16, 22, 28 or 40")
    require(width >= 1, f"network {name!r}: width must be at least 1")
    channels = STEM_CHANNELS
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(3, channels, 3, padding=1, bias=False))
    for group in range(3):
        planes, members = STEM_CHANNELS * width * 2**group, []
        for block in range((depth - 4) // 6):
            members.append(WideBlock(channels, planes, 2 if group > 0 and block == 0 else 1))
            channels = planes
        layers[f"group{group + 1}"] = nn.Sequential(*members)
    layers |= {"bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(inplace=True), "avgpool": nn.AdaptiveAvgPool2d(1)}
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(channels, n_classes)}
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
