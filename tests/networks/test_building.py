"""Names to networks: shapes, stems, and what an unknown name is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from dcpipe import networks
from dcpipe.types import DataError

FORMS = (
    "convnet-dN-wN, resnet10-wN, resnet18-wN, resnet10-ap, wrn-D-K, resnet18-small, resnet50-small, resnet101-small, "
    "mobilenet_v2-small, mobilenet_v2_x0_5-small, shufflenet_v2_x0_5-small, efficientnet_b0-small, densenet121-small, "
    "densenet121-k12-small, alexnet-small, "
    "a torchvision model name, or timm/NAME"
)


def out_of(network: nn.Module, size: int) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(network.eval()(torch.zeros(2, 3, size, size)).shape)


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


@pytest.mark.parametrize(
    "name", ["resnet18-small", "resnet50-small", "resnet101-small", "mobilenet_v2-small", "efficientnet_b0-small"]
)
def test_small_stems_keep_32_pixels(name: str) -> None:
    network = networks.build(name, 7, 32)
    sizes: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    assert out_of(network, 32) == (2, 7)
    assert sizes[0] == 32, "the stem halves the image"
    # resnets: stem and two blocks; mobilenet: until its third stage; efficientnet: the stem and one convolution
    early, last = {"mobilenet_v2-small": (8, 4), "efficientnet_b0-small": (2, 2)}.get(name, (5, 4))
    assert sizes[:early] == [32] * early
    assert min(side for side in sizes if side > 1) == last  # 1: efficientnet's squeeze and excitation


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


def test_the_thin_resnet_of_full_width_is_the_small_one() -> None:
    def shapes(name: str) -> list[tuple[int, ...]]:
        return [tuple(weight.shape) for weight in networks.build(name, 10, 32).state_dict().values()]

    assert shapes("resnet18-w64") == shapes("resnet18-small")


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet"])
def test_torchvision_names(name: str) -> None:
    network = networks.build(name, 3, 64)
    assert out_of(network, 64) == (2, 3)


def test_timm_names() -> None:
    pytest.importorskip("timm")
    network = networks.build("timm/resnet10t", 4, 32)
    assert out_of(network, 32) == (2, 4)
    assert networks.head(network).out_features == 4


def test_initial_weights_follow_the_seed() -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(networks.head(networks.build("resnet18-small", 3, 32)).weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        (
            "convnet-d4-w8",
            8,
            "network 'convnet-d4-w8' halves images 4 times; 8-pixel images need d <= 3",
        ),
        ("convnet-d0-w8", 8, "network 'convnet-d0-w8': depth and width must be at least 1"),
        ("convnet-d1-w0", 8, "network 'convnet-d1-w0': depth and width must be at least 1"),
        ("resnet10-w0", 8, "network 'resnet10-w0': width must be at least 1"),
        ("wrn-16-0", 8, "network 'wrn-16-0': width must be at least 1"),
        (
            "wrn-18-2",
            8,
            "network 'wrn-18-2': depth must be 6n + 4 with n at least 1, as 10, 16, 22, 28 or 40",
        ),
        ("wrn-4-2", 8, "network 'wrn-4-2': depth must be 6n + 4 with n at least 1, as 10, 16, 22, 28 or 40"),
        (
            "zzzz",
            8,
            f"unknown network 'zzzz'; use one of {FORMS}",
        ),
        (
            "resnet_18-small",
            8,
            f"unknown network 'resnet_18-small'; use one of {FORMS}; close names: resnet18-small, "
            "resnet101-small, resnet50-small, densenet121-small",
        ),
    ],
)
def test_refused_names(name: str, size: int, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        networks.build(name, 3, size)
    assert str(error.value) == sentence


def test_an_unknown_timm_name_lists_close_ones() -> None:
    pytest.importorskip("timm")
    with pytest.raises(DataError) as error:
        networks.build("timm/resnet10", 3, 32)
    sentence = str(error.value)
    assert sentence.startswith("network 'timm/resnet10': timm has no model 'resnet10'; close names: ")
    assert "resnet10t" in sentence.split("close names: ")[1].split(", ")


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(DataError) as error:
        networks.build("timm/resnet10t", 3, 32)
    assert str(error.value) == "network 'timm/resnet10t' needs the timm package; install dcpipe[timm]"
