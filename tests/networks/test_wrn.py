"""Wide ResNets against the paper's figure 1, in plain functions and float64."""

from __future__ import annotations

import pytest
import torch
from building import normed
from torch import nn

from dcpipe import networks
from dcpipe.networks.wrn import WideBlock


@pytest.mark.parametrize(("channels", "planes", "stride"), [(3, 3, 1), (3, 6, 1), (3, 6, 2), (4, 4, 2)])
def test_a_wide_block_by_hand(channels: int, planes: int, stride: int) -> None:
    torch.manual_seed(0)
    block, inputs = WideBlock(channels, planes, stride).double(), torch.randn(3, channels, 6, 6).double()
    active = normed(inputs)
    changed = nn.functional.conv2d(active, block.conv1.weight, stride=stride, padding=1)
    changed = nn.functional.conv2d(normed(changed), block.conv2.weight, padding=1)
    if channels == planes and stride == 1:
        expected = inputs + changed
    else:
        expected = torch.einsum("pc,mchw->mphw", block.shortcut.weight[..., 0, 0], active)[..., ::stride, ::stride]
        expected = expected + changed
    torch.testing.assert_close(block(inputs), expected)


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2), (22, 1)])
def test_depth_counts_layers_and_width_multiplies_channels(depth: int, width: int) -> None:
    network = networks.build(f"wrn-{depth}-{width}", 5, 32)
    layers = [
        m
        for m in network.modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    ]
    assert len(layers) == depth - 2  # 6n in the blocks, the stem, the classifier
    blocks = [module for module in network.modules() if isinstance(module, WideBlock)]
    assert len(blocks) == (depth - 4) // 2
    assert sorted({block.conv2.out_channels for block in blocks}) == [16 * width, 32 * width, 64 * width]
