"""ResNet10-AP: sizes, counts, initial weights, and a block by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import networks
from dcpipe.networks.resnet_ap import PooledBlock
from dcpipe.types import DataError

BODY = 2 * 9 * 64 * 64 + sum(9 * c * 2 * c + 9 * 4 * c * c + c * 2 * c for c in (64, 128, 256))
NORMS = 2 * (64 + 2 * 64 + 3 * (128 + 256 + 512))
HEAD = 512 * 10 + 10


@pytest.mark.parametrize(("size", "stem", "count"), [(32, 3, 4_903_242), (128, 3, 4_903_242), (224, 7, 4_910_922)])
def test_parameters(size: int, stem: int, count: int) -> None:
    network = networks.build("resnet10-ap", 10, size)
    assert sum(p.numel() for p in network.parameters()) == BODY + NORMS + HEAD + 3 * 64 * stem**2 == count


def test_multiplications_of_an_image_of_224_pixels() -> None:
    """1.82 G, as counted in the official network."""
    network, total = networks.build("resnet10-ap", 10, 224).to("meta"), 0

    def count(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += out.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(1, 3, 224, 224, device="meta"))
    stem, first = 3 * 64 * 7**2 * 224**2, 2 * 9 * 64**2 * 56**2
    others = 3 * (9 * 64 * 128 * 56**2 + 9 * 128**2 * 28**2 + 64 * 128 * 56**2)
    assert total == stem + first + others + 512 * 10 == 1_820_791_808


@pytest.mark.parametrize(
    ("size", "sides"),
    [(16, [16, 8, 4, 2]), (64, [64, 32, 16, 8]), (65, [32, 16, 8, 4]), (128, [64, 32, 16, 8]), (224, [56, 28, 14, 7])],
)
def test_sides_of_the_stages(size: int, sides: list[int]) -> None:
    network = networks.build("resnet10-ap-w2", 5, size)
    seen: list[tuple[int, ...]] = []
    for stage in range(1, 5):
        network.get_submodule(f"layer{stage}").register_forward_hook(lambda *said: seen.append(said[2].shape[1:]))
    with torch.no_grad():
        assert network(torch.rand(2, 3, size, size)).shape == (2, 5)
    assert seen == [(2 * 2**i, side, side) for i, side in enumerate(sides)]
    assert all(m.stride == (1, 1) for m in network.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", ["resnet10-ap-w2", "convnet-d1-w2", "convnet-d2-w2", "convnet-d3-w2"])
def test_the_smallest_images_that_it_takes_are_told_apart(name: str) -> None:
    """Instance norm of a map of one pixel would give the same for every image."""

    def takes(size: int) -> bool:
        try:
            return bool(networks.build(name, 3, size))
        except DataError:
            return False

    size = next(size for size in range(1, 33) if takes(size))
    torch.manual_seed(0)
    with torch.no_grad():
        assert networks.build(name, 3, size)(torch.randn(8, 3, size, size)).std(0).max() > 1e-3


def test_images_do_not_depend_on_each_other() -> None:
    network, inputs = networks.build("resnet10-ap-w2", 3, 16).train(), torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(network(inputs)[:1], network(inputs[:1]))


def test_initial_weights() -> None:
    torch.manual_seed(0)
    network = networks.build("resnet10-ap", 10, 224)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            goal = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.bias is None and abs(float(module.weight.detach().std()) / goal - 1) < 0.03
        if isinstance(module, nn.GroupNorm):
            assert module.num_groups == module.num_channels
            assert bool((module.weight == 1).all() and (module.bias == 0).all())


def normed(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


def halved(x: torch.Tensor) -> torch.Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


@pytest.mark.parametrize("halve", [False, True])
def test_a_block_by_hand(halve: bool) -> None:
    torch.manual_seed(0)
    planes = 4 if halve else 2
    block, x = PooledBlock(2, planes, halve).double(), torch.randn(3, 2, 6, 6).double()
    changed = normed(F.conv2d(x, block.conv1.weight, padding=1)).clamp(min=0)
    skipped = x
    if halve:
        changed = halved(changed)
        skipped = normed(halved(torch.einsum("pc,mchw->mphw", block.shortcut[0].weight[..., 0, 0], x)))
    changed = normed(F.conv2d(changed, block.conv2.weight, padding=1))
    torch.testing.assert_close(block(x), (changed + skipped).clamp(min=0))


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        (
            "resnet10-ap",
            15,
            "network 'resnet10-ap' halves images 3 times and normalises maps of 2 x 2 pixels or more, so it needs at "
            "least 16 pixels, got 15; choose convnet-dN-wN, or images.size 16",
        ),
        ("resnet10-ap-w0", 16, "network 'resnet10-ap-w0': width must be at least 1"),
    ],
)
def test_refused(name: str, size: int, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        networks.build(name, 3, size)
    assert str(error.value) == sentence


def test_other_names_are_left_to_others() -> None:
    with pytest.raises(DataError) as error:
        networks.build("resnet10-apx", 3, 32)
    assert "resnet10-ap, " in str(error.value)
