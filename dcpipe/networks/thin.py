"""Thin ResNets for CPUs, such as `resnet10-w32` and `resnet18-w32`: the ResNets of He et al. (CVPR 2016) at any width.

Each of the four stages has one (`resnet10`) or two (`resnet18`) basic blocks, and the first stage has w channels
instead of 64. Blocks equal those of torchvision and have the same parameter names. They are written here because
importing torchvision takes as long as importing torch. The stem is one 3x3 convolution without max pooling. Its stride
brings images to 32 pixels: it is 1 up to 63 pixels, 2 at 64 and 4 at 128. At 32 pixels `resnet18-w64` is the same as
`resnet18-small`.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from dcpipe.types import require

PATTERN = re.compile(r"resnet(10|18)-w(\d+)")
STEM_PIXELS = 32


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + x). If the shape changes, x is projected by `downsample`."""

    def __init__(self, channels: int, planes: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[m, channels, h, w] -> [m, planes, h / stride, w / stride]."""
        skipped = inputs if self.downsample is None else self.downsample(inputs)
        changed = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(inputs)))))
        changed += skipped
        summed: torch.Tensor = self.relu(changed)
        return summed


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` has another form."""
    match = PATTERN.fullmatch(name)
    if match is None:
        return None
    blocks, width = {10: 1, 18: 2}[int(match[1])], int(match[2])
    require(width >= 1, f"network {name!r}: width must be at least 1")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(3, width, 3, stride=max(1, size // STEM_PIXELS), padding=1, bias=False)
    layers["bn1"] = nn.BatchNorm2d(width)
    layers["relu"] = nn.ReLU(inplace=True)
    channels = width
    for stage in range(4):
        planes, members = width * 2**stage, []
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            members.append(BasicBlock(channels, planes, stride, _shortcut(channels, planes, stride)))
            channels = planes
        layers[f"layer{stage + 1}"] = nn.Sequential(*members)
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, n_classes)}
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _shortcut(channels: int, planes: int, stride: int) -> nn.Module | None:
    """A projection if the block changes the shape, else None."""
    if stride == 1 and channels == planes:
        return None
    return nn.Sequential(nn.Conv2d(channels, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
