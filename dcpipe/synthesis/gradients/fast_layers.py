"""Layers of networks for small images that compute the same as torch's, with cheaper derivatives on a CPU.

* `InstanceNorm`: group norm with one channel per group. Torch differentiates its backward pass as a dozen operations,
  each a pass over memory; in closed form, the second derivative is a combination of three maps (below).
* `AveragePool`: the mean over adjacent windows of p x p. On a CPU it is one matrix product with p rows of pixels;
  torch's layer takes four times as long.

With x = (z - m) r, r = 1 / sqrt(var z + eps), means over a channel's pixels, and a = gamma g for the gradients g of the
outputs, the gradients of the inputs are S = r (a - mean a - x mean(a x)). For v = dL/dS, writing s = mean(a x) and
t = mean(v x),

    dL/da = r (v - mean v - x t), of the same form as S, and
    dL/dz = -r^2 [s v + t a + x (mean(v a) - mean v mean a - 3 s t) - (s mean v + t mean a)].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


class InstanceNorm(nn.Module):
    """As the given `nn.GroupNorm`, with the same weight and bias, which get no gradient; differentiable twice."""

    def __init__(self, of: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = of.weight, of.bias, of.eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalise inputs [m, c, h, w]."""
        outputs: torch.Tensor = _Normalise.apply(inputs.contiguous(), self.weight, self.bias, self.eps)
        return outputs


class AveragePool(nn.Module):
    """As `nn.AvgPool2d(window)`: [m, c, h, w] to [m, c, h // window, w // window]."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        p = self.window
        if inputs.device.type != "cpu":
            return F.avg_pool2d(inputs, p)
        high, wide = (side // p for side in inputs.shape[2:])
        columns = torch.eye(wide, dtype=inputs.dtype, device=inputs.device).repeat_interleave(p, 0).repeat(p, 1)
        rows = inputs[:, :, : high * p, : wide * p].reshape(-1, p * wide * p)
        return (rows @ (columns / p**2)).view(*inputs.shape[:2], high, wide)


def use_fast_layers(network: nn.Module) -> None:
    """Replace the layers of a network by these, wherever they compute the same."""
    for name, module in network.named_children():
        if isinstance(module, nn.GroupNorm) and module.affine and module.num_groups == module.num_channels:
            setattr(network, name, InstanceNorm(module))
        elif isinstance(module, nn.AvgPool2d) and isinstance(module.kernel_size, int) and _plain(module):
            setattr(network, name, AveragePool(module.kernel_size))
        else:
            use_fast_layers(module)


def _plain(pool: nn.AvgPool2d) -> bool:
    """Whether the windows are adjacent and lie inside the image."""
    settings = (pool.stride, pool.padding, pool.ceil_mode, pool.divisor_override)
    return settings == (pool.kernel_size, 0, False, None)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        m, c, h, w = inputs.shape
        outputs, mean, rate = torch.native_group_norm(inputs, weight, bias, m, c, h * w, c, eps)
        ctx.save_for_backward(inputs, mean, rate, weight)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return _NormaliseBackward.apply(grads[0], *ctx.saved_tensors), None, None, None


class _NormaliseBackward(torch.autograd.Function):
    """S for the gradients g [m, c, h, w], with means and rates [m, c]."""

    @staticmethod
    def forward(
        ctx: Any,
        grads: torch.Tensor,
        inputs: torch.Tensor,
        mean: torch.Tensor,
        rate: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(grads, inputs, mean, rate, weight)
        return _back(grads, inputs, mean, rate, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        grads, inputs, mean, rate, weight = ctx.saved_tensors
        to_grads = _back(outer[0], inputs, mean, rate, weight)
        v, g, z = (part.flatten(0, 1).flatten(1) for part in (outer[0], grads, inputs))  # [m c, h w]
        m, r = mean.reshape(-1, 1), rate.reshape(-1, 1)
        x = (z - m).mul_(r)
        of_g, of_v, s, t, both = (part.mean(1, keepdim=True) for part in (g, v, g * x, v * x, v * g))
        k = -r.square() * weight.repeat(len(inputs))[:, None]  # for g, not for a: gamma enters only once, here
        to_inputs = x.mul_(k * (both - of_g * of_v - 3 * s * t)).addcmul_(v, k * s).addcmul_(g, k * t)
        return to_grads, to_inputs.sub_(k * (s * of_v + t * of_g)).view_as(inputs), None, None, None


def _back(
    grads: torch.Tensor, inputs: torch.Tensor, mean: torch.Tensor, rate: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The first derivative, by torch's own backward function."""
    m, c, h, w = inputs.shape
    of_inputs: torch.Tensor = torch.ops.aten.native_group_norm_backward(
        grads.contiguous(), inputs, mean, rate, weight, m, c, h * w, c, [True, False, False]
    )[0]
    return of_inputs
