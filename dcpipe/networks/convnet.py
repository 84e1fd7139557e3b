"""ConvNet-Dd-Ww, the network of the condensation papers (Gidaris & Komodakis, CVPR 2018; DC, ICLR 2021).

It has d blocks of [3x3 convolution with w channels, instance norm, ReLU, 2x2 average pooling], then one linear layer.
`convnet-d3-w128` is an example of its name. Images with fewer than 2**d pixels a side are refused, because the last
pooling would be empty.
"""

from __future__ import annotations

import re

from torch import nn

from dcpipe.types import require

PATTERN = re.compile(r"convnet-d(\d+)-w(\d+)")


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` has another form; raises `DataError` for images that are too small."""
    match = PATTERN.fullmatch(name)
    if match is None:
        return None
    depth, width = int(match[1]), int(match[2])
    require(depth >= 1 and width >= 1, f"network {name!r}: depth and width must be at least 1")
    require(
        size >= 2**depth,
        f"network {name!r} halves images {depth} times; for {size} pixels choose a depth of at most "
        f"{size.bit_length() - 1}",
    )
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(depth):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GroupNorm(width, width),  # instance norm with an affine map; also defined for 1x1 inputs
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
        ]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (size // 2**depth) ** 2, n_classes))
