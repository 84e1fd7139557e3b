"""Slimming: the pruned network is the masked one, the global threshold is the paper's, and sizes are counted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dcpipe import networks
from dcpipe.networks import slimming
from dcpipe.types import DataError, NotApplicableError


def scaled(network: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with scales, shifts and running statistics that all differ."""
    draws = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            module.weight.data = torch.randn(shape, generator=draws)
            module.bias.data = torch.randn(shape, generator=draws)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(torch.randn(shape, generator=draws))
            module.running_var.copy_(torch.rand(shape, generator=draws) + 0.5)
    return network.double()


def vgg(pixels: int = 2) -> nn.Module:
    """Three convolutions; the linear layer has pixels^2 columns for each channel of the last."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.0)),
        *(nn.Conv2d(8, 5, 1), nn.BatchNorm2d(5), nn.SiLU(), nn.AdaptiveAvgPool2d(pixels), nn.Flatten()),
        nn.Linear(5 * pixels**2, 4),
    )


NETWORKS = {
    "vgg": lambda: vgg(),
    "resnet10-w4": lambda: networks.build("resnet10-w4", 4, 8),
    "wrn-10-1": lambda: networks.build("wrn-10-1", 4, 8),
    "resnet50": lambda: networks.build("resnet50", 4, 32),
    "mobilenet_v2-small": lambda: networks.build("mobilenet_v2-small", 4, 32),
}


def test_all_channels_of_a_vgg_and_those_within_blocks_of_a_resnet_can_go() -> None:
    assert [group.norm for group in slimming.groups_of(vgg())] == ["1", "5", "9"]
    assert slimming.groups_of(vgg())[0] == slimming.Group("1", "0", ("4",))
    names = [group.norm for group in slimming.groups_of(NETWORKS["resnet50"]())]
    assert names[0] == "bn1" and all(name.startswith("layer") and name[-3:] in ("bn1", "bn2") for name in names[1:])
    assert len(names) == 1 + 2 * (3 + 4 + 6 + 3)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ratio", [0.3, 0.8])
def test_the_pruned_network_is_the_masked_one(name: str, ratio: float) -> None:
    torch.manual_seed(0)
    network = scaled(NETWORKS[name]())
    groups = slimming.groups_of(network)
    if name == "mobilenet_v2-small":  # every other norm is beside a depthwise convolution or a sum
        linear = ["features.1.conv.2", "features.17.conv.3"]  # of blocks without a sum before and after them
        assert [group.norm for group in groups] == [*linear, "features.18.1"]
    masks = slimming.masks_of(network, groups, ratio)
    masked, pruned = slimming.masked(network, groups, masks), slimming.pruned(network, groups, masks)
    before, after = slimming.size_of(network, 32), slimming.size_of(pruned, 32)
    assert after.parameters < before.parameters and after.macs < before.macs
    inputs = torch.randn(3, 3, 32 if "resnet50" in name else 8, 32 if "resnet50" in name else 8).double()
    assert torch.allclose(masked.eval()(inputs), pruned.eval()(inputs), atol=1e-9, rtol=1e-9)
    assert not torch.allclose(network.eval()(inputs), pruned(inputs), atol=1e-3)
    assert torch.allclose(masked.train()(inputs), pruned.train()(inputs), atol=1e-9, rtol=1e-9)
    copied = copy.deepcopy(pruned)
    copied.load_state_dict(pruned.state_dict())


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(NotApplicableError, match="no batch norm whose channels can be removed: take one with"):
        slimming.groups_of(networks.build("convnet-d2-w4", 4, 8))


def test_a_network_that_branches_on_values_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs if inputs.sum() > 0 else -inputs

    with pytest.raises(NotApplicableError, match="cannot follow"):
        slimming.groups_of(Branching())


def test_a_layer_that_is_used_twice_keeps_its_channels() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.again = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.again(self.again(torch.relu(self.norm(self.first(inputs)))))
            return result

    with pytest.raises(NotApplicableError):
        slimming.groups_of(Twice())


class Called(nn.Module):
    """A convolution, a batch norm, and a function of them and another layer."""

    def __init__(self, rest: Callable[[Any, torch.Tensor], torch.Tensor], last: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last, self.rest = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), last, rest

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.rest(self, inputs)


def plain(net: Any, inputs: torch.Tensor) -> torch.Tensor:
    return torch.relu(net.norm(net.first(inputs)))


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "linear along rows of pixels": lambda: Called(lambda net, x: net.last(plain(net, x)), nn.Linear(8, 4)),
    "pixels flattened alone": lambda: Called(lambda net, x: net.last(plain(net, x).flatten(2)), nn.Linear(64, 4)),
    "function on pixels alone": lambda: Called(
        lambda net, x: net.last(torch.flatten(plain(net, x), start_dim=2)), nn.Linear(64, 4)
    ),
    "whole batch in one row": lambda: Called(
        lambda net, x: net.last(torch.flatten(F.adaptive_avg_pool2d(plain(net, x), 1))), nn.Linear(18, 4)
    ),
    "module on pixels alone": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Flatten(2), nn.Linear(64, 4)
    ),
    "weight used elsewhere": lambda: Called(
        lambda net, x: net.last(plain(net, x)) + F.conv2d(x, net.first.weight).sum(), nn.Conv2d(6, 4, 1)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_channels_that_are_mixed_otherwise_stay(name: str) -> None:
    network = REFUSED[name]()
    network(torch.randn(3, 3, 8, 8))  # it does compute something
    with pytest.raises(NotApplicableError, match="no batch norm whose channels can be removed"):
        slimming.groups_of(network)


FOLLOWED: dict[str, Callable[[], nn.Module]] = {
    "named input": lambda: Called(
        lambda net, x: net.last(torch.relu(net.norm(input=net.first(x)))), nn.Conv2d(6, 4, 1)
    ),
    "function": lambda: Called(lambda net, x: net.last(torch.flatten(plain(net, x), 1)), nn.Linear(384, 4)),
    "named": lambda: Called(lambda net, x: net.last(torch.flatten(plain(net, x), start_dim=1)), nn.Linear(384, 4)),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_calls_in_every_form_are_followed(name: str) -> None:
    network = scaled(FOLLOWED[name]())
    groups = slimming.groups_of(network)
    masks = slimming.masks_of(network, groups, 0.5)
    inputs = torch.randn(3, 3, 8, 8).double()
    masked, pruned = slimming.masked(network, groups, masks), slimming.pruned(network, groups, masks)
    assert torch.allclose(masked.eval()(inputs), pruned.eval()(inputs), atol=1e-12)
    assert len(pruned.get_parameter("norm.weight")) == 2  # floor(6 / 2) + 1 go


@given(st.integers(0, 1000), st.floats(0.0, 0.99))
def test_the_threshold_is_global_and_strict(seed: int, ratio: float) -> None:
    network = scaled(vgg(), seed)
    groups = slimming.groups_of(network)
    masks = slimming.masks_of(network, groups, ratio)
    found = slimming.scales(network, groups)
    ordered = sorted(value for scale in found.values() for value in scale.tolist())
    threshold = ordered[int(len(ordered) * ratio)] if ratio else -1.0
    for name, mask in masks.items():
        scale = found[name].tolist()
        assert mask.tolist() == [value > threshold or value == max(scale) for value in scale]
        assert mask.any()
    removed = sum(int((~mask).sum()) for mask in masks.values())
    saved = sum(max(scale.tolist()) <= threshold for scale in found.values())
    assert removed == (int(len(ordered) * ratio) + 1 - saved if ratio else 0)


def test_a_dead_channel_goes_first() -> None:
    network = scaled(vgg())
    norm = network.get_submodule("5")
    norm.weight.data[3] = 0.0  # type: ignore[index, union-attr]
    masks = slimming.masks_of(network, slimming.groups_of(network), 1e-6)
    assert masks["5"].nonzero().flatten().tolist() == [0, 1, 2, 4, 5, 6, 7] and masks["1"].all() and masks["9"].all()


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_is_a_share(ratio: float) -> None:
    network = vgg()
    with pytest.raises(DataError, match=f"a pruning ratio is {ratio}"):
        slimming.masks_of(network, slimming.groups_of(network), ratio)


def test_sizes_by_hand() -> None:
    """Convolutions 3 -> 6, 6 -> 8 and 8 -> 5 on 8, 4 and 4 pixels a side, and a linear layer of 20 x 4."""
    found = slimming.size_of(vgg(), 8)
    assert found.macs == 64 * 3 * 6 * 9 + 16 * 6 * 8 * 9 + 16 * 8 * 5 + 20 * 4
    convolutions = (3 * 6 * 9 + 6) + 6 * 8 * 9 + (8 * 5 + 5)
    assert found.parameters == convolutions + 2 * (6 + 8 + 5) + (20 * 4 + 4)


def test_the_penalty_has_the_gradient_of_the_paper() -> None:
    network = scaled(vgg())
    groups = slimming.groups_of(network)
    norm = network.get_parameter("1.weight")
    norm.data[0] = 0.0
    value = slimming.penalty(network, groups)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == pytest.approx(sum(float(scale.sum()) for scale in slimming.scales(network, groups).values()))
    assert norm.grad is not None and torch.equal(norm.grad, norm.sign())


def test_recalibration_takes_the_mean_statistics_of_the_batches() -> None:
    network = vgg()
    batches = [torch.randn(16, 3, 8, 8) + 2, torch.randn(16, 3, 8, 8)]
    slimming.recalibrate(network, batches)
    first, norm = network.get_submodule("0"), network.get_submodule("1")
    means = torch.stack([first(batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)  # type: ignore[arg-type]
    assert not network.training and norm.momentum == 0.1
    with pytest.raises(DataError, match="no images"):
        slimming.recalibrate(network, [])


def test_recalibration_weighs_batches_by_their_images() -> None:
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    slimming.recalibrate(network, [torch.zeros(512, 3, 2, 2), torch.ones(8, 3, 2, 2)])
    found = network.get_buffer("1.running_mean")
    assert found.tolist() == pytest.approx([8 / 520] * 3)  # dropout would give 0 or 10 in each pixel of the second


def test_recalibration_does_not_stop_at_a_last_image() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(3))

    batch = torch.randn(5, 3, 2, 2)
    with_one = slimming.recalibrate(network(), [batch, torch.randn(1, 3, 2, 2)])
    without = slimming.recalibrate(network(), [batch])
    for key, value in with_one.state_dict().items():
        assert torch.equal(value, without.state_dict()[key])
    assert with_one.get_buffer("3.running_var").tolist() != [1.0] * 3
