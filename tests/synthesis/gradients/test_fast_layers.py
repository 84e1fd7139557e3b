"""The layers with cheaper derivatives compute the same as torch's, up to the second derivative, in both layouts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcpipe.synthesis.gradients.fast_layers import AveragePool, InstanceNorm, use_fast_layers


def norm_of(channels: int) -> nn.GroupNorm:
    norm = nn.GroupNorm(channels, channels, eps=0.01).double()  # an eps with a visible effect
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(channels, generator=generator, dtype=torch.float64))
    return norm


def derivatives(layer: nn.Module, inputs: torch.Tensor, *, channels_last: bool = False) -> list[torch.Tensor]:
    """Outputs, the gradient S of a sum that weighs them by their squares, and the gradient of <S, constant>."""
    given = inputs.clone().requires_grad_()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    said = layer(given.contiguous(memory_format=layout))
    weights = torch.randn(said.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(inputs)
    (grad,) = torch.autograd.grad(
        (said.pow(3) * weights).contiguous(memory_format=layout).sum(), given, create_graph=True
    )
    pull = torch.randn(grad.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(inputs)
    (second,) = torch.autograd.grad((grad * pull).sum(), given)
    return [said.detach(), grad.detach(), second]


PAIRS = [(norm_of(3), InstanceNorm(norm_of(3))), (nn.AvgPool2d(2), AveragePool(2)), (nn.AvgPool2d(3), AveragePool(3))]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("sides", [(6, 6), (7, 5), (3, 3)])
@pytest.mark.parametrize("pair", PAIRS, ids=["norm", "pool 2", "pool 3"])
def test_equal_to_torchs_own_to_the_second_derivative(
    pair: tuple[nn.Module, nn.Module], sides: tuple[int, int], channels_last: bool
) -> None:
    inputs = 5 + torch.randn(4, 3, *sides, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own, ours = derivatives(pair[0], inputs), derivatives(pair[1], inputs, channels_last=channels_last)
    for expected, found in zip(own, ours, strict=True):
        assert float(expected.abs().max()) > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_norm_of_one_pixel_returns_its_bias() -> None:
    norm = norm_of(2)
    said, grad, second = derivatives(InstanceNorm(norm), torch.full((3, 2, 1, 1), 4.0, dtype=torch.float64))
    torch.testing.assert_close(said, norm.bias.detach()[None, :, None, None].expand(3, 2, 1, 1))
    assert float(grad.abs().max()) < 1e-12 and float(second.abs().max()) < 1e-12


def test_float32_is_as_close_as_torchs_own() -> None:
    inputs = 5 + torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = derivatives(norm_of(3), inputs)
    for right, found in zip(exact, derivatives(InstanceNorm(norm_of(3).float()), inputs.float()), strict=True):
        assert float((found - right).abs().max() / right.abs().max()) < 1e-4


def test_only_equivalent_layers_are_replaced() -> None:
    same = nn.Sequential(norm_of(2), nn.AvgPool2d(2), nn.Sequential(nn.AvgPool2d(3, 3)))
    others: list[nn.Module] = [nn.GroupNorm(1, 2), nn.GroupNorm(2, 2, affine=False), nn.AvgPool2d((2, 1))]
    others += [nn.AvgPool2d(2, 1), nn.AvgPool2d(2, padding=1), nn.AvgPool2d(2, ceil_mode=True)]
    others += [nn.AvgPool2d(2, divisor_override=3), nn.BatchNorm2d(2)]
    network = nn.Sequential(same, *others)
    weight = same[0].weight
    use_fast_layers(network)
    assert [type(module) for module in (same[0], same[1], same[2][0])] == [InstanceNorm, AveragePool, AveragePool]
    assert same[0].weight is weight and list(network)[1:] == others
