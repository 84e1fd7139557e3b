"""Slimming: the pruned network is the masked one, the global threshold is the paper's, and sizes are counted."""

from __future__ import annotations

import copy

import pytest
import torch
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
