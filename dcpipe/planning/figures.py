"""Operations, weights and outputs of a network, computed from its shapes alone.

The network is built and run on torch's meta device, where tensors have no numbers. One that needs numbers is run on the
processor instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dcpipe import networks
from dcpipe.networks.fitting import without_numbers
from dcpipe.planning.work import batches
from dcpipe.synthesis.observers import LARGE

_ITEM = 4  # bytes of a float32


@dataclass(frozen=True)
class Figures:
    """`flops`: operations of a forward pass of one image, a multiplication and an addition being two. `weights`: bytes
    of all tensors of its state. `outputs`, `largest`: float32 bytes of the outputs of all layers, and of the largest,
    for one image. `features`: length of the vector before the classifier. `entries`: numbers of an image that recovery
    matches, of all batch norms and convolutions (`dcpipe.synthesis.observers`)."""

    flops: int
    weights: int
    outputs: int
    largest: int
    features: int
    entries: int

    def training(self, batch: int) -> int:
        """Rough bytes of a device while a batch is trained on: outputs are kept for the backward pass; gradients and
        two moments of every weight."""
        return batch * self.outputs + 4 * self.weights

    def inference(self, batch: int) -> int:
        """Rough bytes of a device while a batch passes: input and output of a layer."""
        return batch * 2 * self.largest + self.weights


@cache
def figures(name: str, n_classes: int, size: int) -> Figures:
    """The figures of a network for images of side `size`. Raises `DataError` for a network that does not take them."""
    try:
        with without_numbers():
            return _measured(name, n_classes, size)
    except (NotImplementedError, RuntimeError):  # it chooses a path by numbers
        with torch.no_grad():
            return _measured(name, n_classes, size)


def _measured(name: str, n_classes: int, size: int) -> Figures:
    network = networks.build(name, n_classes, size).eval()
    outputs: list[int] = []
    entries: list[int] = []
    patch = 16 if size >= LARGE else 4

    def record(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        if isinstance(result, torch.Tensor):
            outputs.append(result.numel() * _ITEM)
        if isinstance(module, nn.BatchNorm2d | nn.Conv2d):
            _, channels, height, width = arguments[0].shape
            patches = batches(height, patch) * batches(width, patch) if isinstance(module, nn.Conv2d) else 0
            entries.append(channels + patches)

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(record)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return Figures(
        flops=counter.get_total_flops(),
        weights=weights,
        outputs=sum(outputs),
        largest=max(outputs),
        features=networks.head(network).in_features,
        entries=sum(entries),
    )


Look = Callable[[str, int, int], Figures]
