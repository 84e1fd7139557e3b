"""Thin ResNets: blocks, width, and a stem that brings any image to 32 pixels."""

from __future__ import annotations

import pytest
import torch

from dcpipe import networks
from dcpipe.networks.thin import BasicBlock


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize(("name", "blocks"), [("resnet10-w4", 4), ("resnet18-w6", 8)])
def test_thin_resnets_see_32_pixels_at_most(name: str, blocks: int, size: int) -> None:
    network = networks.build(name, 7, size).eval()
    assert sum(isinstance(module, BasicBlock) for module in network.modules()) == blocks
    sides: list[int] = []
    network.get_submodule("layer1").register_forward_hook(lambda *parts: sides.append(parts[2].shape[-1]))
    vectors, logits = networks.forward(network, torch.rand(2, 3, size, size))
    width = int(name.split("-w")[1])
    assert (vectors.shape, logits.shape, sides) == ((2, 8 * width), (2, 7), [min(size, 32)])


@torch.no_grad()
def test_the_thin_resnet_of_full_width_is_torchvisions_with_a_small_stem() -> None:
    """The same weights under the same names in the same order, and the same logits."""
    thin, small = (networks.build(name, 10, 32).eval() for name in ("resnet18-w64", "resnet18-small"))
    weights = small.state_dict()
    assert [(name, w.shape) for name, w in thin.state_dict().items()] == [
        (name, w.shape) for name, w in weights.items()
    ]
    thin.load_state_dict(weights)
    inputs = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(thin(inputs), small(inputs))
