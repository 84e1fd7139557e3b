"""Batch norm whose mean and variance are those of the whole batch, of which each process has a share.

PyTorch's `SyncBatchNorm` does this on GPUs and refuses CPUs; `SyncedBatchNorm` is for CPUs, so that a training can be
checked and run without GPUs. In one process both are plain batch norm.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcpipe.types import require

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes. Its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum_of_all(value: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = _SumOfAll.apply(value)
    return total


class SyncedBatchNorm(_BatchNorm):
    """Batch norm (Ioffe and Szegedy, ICML 2015) over the shares of all processes, for inputs [m, c, ...].

    Two sums over processes and layer: of values, with their number, and then of squared distances to the mean, which
    loses no digits where the mean is large. Every process needs at least one item, and all must call it.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As the batch norm of one process on the whole batch: gradients are those of the sum of all losses."""
        if not (self.training or self.running_mean is None):
            return super().forward(inputs)
        axes = [axis for axis in range(inputs.dim()) if axis != 1]
        shape = [1, -1] + [1] * (inputs.dim() - 2)
        number = inputs.new_full((1,), inputs.numel() // inputs.shape[1])
        totals = _sum_of_all(torch.cat([inputs.sum(axes), number]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = inputs - mean.view(shape)
        variance = _sum_of_all(centred.square().sum(axes)) / count
        self._keep(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if not self.affine:
            return scaled
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _keep(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Update the running statistics; the variance is the unbiased one."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)

    def _check_input_dim(self, inputs: torch.Tensor) -> None:
        assert inputs.dim() >= 2


def synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with every batch norm replaced by one over all processes, which has the same parameters, buffers and
    names; a network that is a batch norm itself is returned as another module.

    Raises `DataError` for a layer that is a batch norm and something more, as some libraries have.
    """
    for name, module in network.named_modules():
        known = not isinstance(module, _BatchNorm) or type(module) in _PLAIN
        require(
            known,
            f"teacher.training.sync_batchnorm is true, but layer {name!r} of {type(network).__name__} is a "
            f"{type(module).__name__}, which cannot be synchronised; set it to false, or train in one process",
        )
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    return _replaced(network)


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        synced = SyncedBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        synced.train(module.training)
        # The very parameters and buffers, which others may share.
        synced._parameters, synced._buffers = module._parameters, module._buffers
        return synced
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module
