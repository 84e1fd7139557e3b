"""The ConvNet of the condensation papers: sizes, parameters, and images that do not depend on each other."""

from __future__ import annotations

import pytest
import torch
from building import out_of

from dcpipe import networks
from dcpipe.types import DataError


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [8, 14, 32, 64])
def test_convnet_shapes(depth: int, size: int) -> None:
    name = f"convnet-d{depth}-w6"
    if size < 2**depth:
        with pytest.raises(DataError):
            networks.build(name, 5, size)
        return
    network = networks.build(name, 5, size)
    assert networks.head(network).in_features == 6 * (size // 2**depth) ** 2
    assert out_of(network, size) == (2, 5)


def test_convnet_has_the_papers_parameters() -> None:
    """ConvNet-D3-W128 on 32 pixels and 10 classes: 320,010 parameters, as the condensation papers' code counts."""
    network = networks.build("convnet-d3-w128", 10, 32)
    convolutions = 3 * 128 * 9 + 128 + 2 * (128 * 128 * 9 + 128)
    assert sum(p.numel() for p in network.parameters()) == convolutions + 3 * 256 + 128 * 16 * 10 + 10 == 320_010


def test_convnet_normalises_each_image_alone() -> None:
    network = networks.build("convnet-d2-w4", 3, 8).train()
    inputs = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(network(inputs)[:1], network(inputs[:1]))
