"""The weight gradients of every class at once, exactly.

Gradient matching (DC, Zhao, Mopuri & Bilen, ICLR 2021; IDC, Kim et al., ICML 2022; MDC, He et al., ICLR 2024) compares,
class by class, the gradient of the mean cross-entropy on real images with that on synthetic ones, and needs the second
derivative for the pixels. Where no sample depends on another, the loss of a batch is the sum of the samples' losses, so
one backward pass gives dL/dz of every layer's outputs z for all samples of all classes. A weight's gradient is linear
in them:

    G[g, c] = sum_i weights[g, i] correlation(x[c, i], dL/dz[c, i]),

where x is the layer's input. Groups of samples (all of a class; its first m: MDC's subset S[m]) differ in their weights
alone and share both passes. Samples next to each other that have the same weights in every group form a *run*; each run
is correlated once, and a group is a sum over runs: MDC's two terms, made of the runs "the first m" and "the rest", cost
what IDC's one does. Where there are too many runs for that, dL/dz is scaled and correlated once a group.

The correlation is torch's own convolution-weight gradient, one call a class and run: on a CPU it takes a third to a
twentieth of the time of unfolded inputs and one batched matrix product, and no memory beside its result.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from dcpipe.synthesis.gradients.fast_layers import use_fast_layers
from dcpipe.types import require

Parameters = Literal["conv", "conv+linear"]
Layer = nn.Conv2d | nn.Linear
RUNS = 8  # up to so many runs, or as many as groups, are correlated one by one
ON_CPU = 64  # samples in one pass there, but whole classes: maps of more are fetched from memory each time


def check(network: nn.Module, parameters: Parameters = "conv") -> None:
    """Raises `DataError` for a network whose gradients by class cannot be had from one pass: samples that depend on
    each other, or weights that are not those of plain convolutions (and linear layers)."""
    legal = " or ".join(get_args(Parameters))
    require(parameters in get_args(Parameters), f"parameters must be {legal}, got {parameters!r}")
    owners: dict[int, str] = {}
    for name, module in network.named_modules():
        batch = isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        require(
            not batch,
            f"layer {name!r} normalises with batch statistics where per-sample gradients are assumed; "
            "use a network with group norm such as convnet-d3-w128 or resnet10-ap, or set it to evaluation mode",
        )
        if isinstance(module, nn.Conv2d):
            plain = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
            require(
                plain,
                f"convolution {name!r} has groups={module.groups}, padding={module.padding!r}, padding_mode="
                f"{module.padding_mode!r}; gradients by class need 1 group and a number of zeros as padding",
            )
        if isinstance(module, Layer) and id(module.weight) in owners:
            shared = f"layers {owners[id(module.weight)]!r} and {name!r} share one weight"
            require(False, f"{shared}; gradients by class need a weight of its own for each layer")
        if isinstance(module, Layer):
            owners[id(module.weight)] = name
    require(
        any(isinstance(m, nn.Conv2d) for m in network.modules()), "network has no convolution to match gradients of"
    )
    least = 3 if parameters == "conv" else 2
    for name, tensor in network.named_parameters():
        require(
            tensor.ndim < least or id(tensor) in owners,
            f"parameter {name!r} of shape {list(tensor.shape)} is no weight of a 2-d convolution or linear layer; "
            "gradients by class are known for these alone, so use another network",
        )


@dataclass(frozen=True, eq=False)
class _Read:
    """A layer's inputs and outputs, and how often these had been overwritten by then."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    versions: tuple[int, int]


class _Correlation(torch.autograd.Function):
    """A convolution's weight gradient of each run of each class: [runs, c, out, in, kh, kw], differentiable once.

    `inputs` [c*n, in, h, w] and `grads` (dL/dz) [c*n, out, h', w'] are class-major; `runs` are (start, stop) in 0..n.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        grads: torch.Tensor,
        layer: nn.Conv2d,
        n: int,
        runs: list[tuple[int, int]],
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, grads)
        ctx.layer = layer
        ctx.rows = [[slice(first + a, first + b) for first in range(0, len(inputs), n)] for a, b in runs]
        found = grads.new_empty(len(runs), len(inputs) // n, *layer.weight.shape)
        for to_run, rows in zip(found, ctx.rows, strict=True):
            for to_class, part in zip(to_run, rows, strict=True):
                to_class.copy_(_back(layer, grads[part], inputs[part], layer.weight, of_weight=True))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None, None, None]:
        inputs, grads = ctx.saved_tensors
        layer: nn.Conv2d = ctx.layer
        # samples in no run have no gradient
        to_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        to_grads = torch.zeros_like(grads)
        for of_run, rows in zip(outer[0], ctx.rows, strict=True):
            for kernel, part in zip(of_run, rows, strict=True):
                to_grads[part] = F.conv2d(inputs[part], kernel, None, layer.stride, layer.padding, layer.dilation)
                if to_inputs is not None:
                    to_inputs[part] = _back(layer, grads[part], inputs[part], kernel, of_weight=False)
        return to_inputs, to_grads, None, None, None


def _back(
    layer: nn.Conv2d, grads: torch.Tensor, inputs: torch.Tensor, kernel: torch.Tensor, *, of_weight: bool
) -> torch.Tensor:
    """The gradient of a convolution's weight, or of its inputs, by the library's own backward."""
    mask = [not of_weight, of_weight, False]
    settings = (layer.stride, layer.padding, layer.dilation, False, [0, 0], 1)
    found = torch.ops.aten.convolution_backward(grads, inputs, kernel, None, *settings, mask)
    taken: torch.Tensor = found[int(of_weight)]
    return taken


class ClassGradients:
    """Gradients of the mean cross-entropies of classes w.r.t. a network's weights.

    Matched are the weights of convolutions (IDC, MDC) or of convolutions and linear layers (DC, DSA); biases and norms
    are left out. `names` are the layers, in the order of `network.named_modules()`, which is that of the results.
    Reads the network's parameters where they are: optimiser steps and `load_state_dict` are seen, but after
    `network.to(device)` or a change of mode make a new one. The network itself is left as it is, without hooks.

    All classes go through one pass, or on a CPU as few as its caches like. With a graph, memory is bounded by calling
    this and `backward` for some classes after others: given the network, classes do not depend on each other.

    Raises `DataError` as `check` does.
    """

    def __init__(self, network: nn.Module, *, parameters: Parameters = "conv") -> None:
        check(network, parameters)
        self._twin = _twin(network)
        chosen = (nn.Conv2d,) if parameters == "conv" else (nn.Conv2d, nn.Linear)
        self._layers = {name: m for name, m in self._twin.named_modules() if isinstance(m, chosen)}
        self.names = tuple(self._layers)
        self._reads: dict[str, _Read] = {}
        self._features: torch.Tensor | None = None
        for name, layer in self._layers.items():
            layer.register_forward_hook(partial(self._note, name))
        for module in self._twin.modules():
            if not isinstance(module, nn.AdaptiveAvgPool2d | nn.Identity):
                module.register_forward_hook(self._look)

    def __call__(
        self, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, *, create_graph: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """sum_i weights[g, i] dCE_i/dW of the n samples of each class: [g, c, out, k] for every layer, k = in kh kw.

        `inputs` [c*n, 3, s, s] class-major, normalised; `labels` i64 [c*n]; `weights` f32 [g, n], or [g, c, n] where
        each class has its own, best on the CPU, where their runs are looked for: 1/n for the mean, 1/m for the first m
        and 0 for the rest for the mean of a prefix. With `create_graph` the result can be differentiated once more
        (w.r.t. `inputs`); without, it holds no graph. Second: the features f32 [c*n, d, h, w] without a graph, the
        last map in the network before global pooling (MDC's feature distance).

        Raises `DataError` for shapes that do not fit, and for a network that uses a layer twice, or overwrites what
        one reads or returns.
        """
        n = weights.shape[-1]
        classes = len(inputs) // n
        fits = len(inputs) == len(labels) == classes * n and weights.shape[1:-1] in ((), (classes,))
        require(
            fits and classes > 0,
            f"weights {list(weights.shape)} are [groups, n] or [groups, classes, n], and need n inputs and n labels a "
            f"class; got {len(inputs)} inputs, {len(labels)} labels",
        )
        every = weights.detach().to("cpu", inputs.dtype)
        every = (every[:, None] if every.ndim == 2 else every).expand(-1, classes, -1)
        step = max(1, ON_CPU // n) if inputs.device.type == "cpu" else classes
        parts = [
            self._some(inputs[a * n : b * n], labels[a * n : b * n], every[:, a:b], create_graph)
            for a, b in ((a, min(a + step, classes)) for a in range(0, classes, step))
        ]
        if len(parts) == 1:
            return parts[0]
        return [torch.cat(same, 1) for same in zip(*(p[0] for p in parts), strict=True)], torch.cat(
            [p[1] for p in parts]
        )

    def _some(
        self, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, create_graph: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """As `__call__`, in one pass; weights [g, c, n] on the CPU."""
        with torch.enable_grad():
            try:
                loss = F.cross_entropy(self._twin(inputs if create_graph else inputs.detach()), labels, reduction="sum")
                self._check_reads()
                reads, features = [self._reads[name] for name in self.names], self._features
            finally:
                self._reads, self._features = {}, None
            grads = torch.autograd.grad(loss, [read.outputs for read in reads], create_graph=create_graph)
        with torch.set_grad_enabled(create_graph):
            layers = zip(self._layers.values(), reads, grads, strict=True)
            found = [_weighted(layer, read.inputs, grad, weights) for layer, read, grad in layers]
        assert features is not None
        return found, features

    def _note(self, name: str, layer: Layer, arguments: tuple[torch.Tensor], outputs: torch.Tensor) -> torch.Tensor:
        """Keep what a layer reads and says. Without a graph below, the backward pass ends at its outputs."""
        require(name not in self._reads, self._twice(name))
        if not outputs.requires_grad:
            outputs = outputs.detach().requires_grad_()
        self._reads[name] = _Read(arguments[0], outputs, (arguments[0]._version, outputs._version))
        return outputs

    def _look(self, module: nn.Module, arguments: tuple[Any, ...], outputs: Any) -> None:
        if isinstance(outputs, torch.Tensor) and outputs.ndim == 4:
            self._features = outputs.detach()

    def _check_reads(self) -> None:
        for name in self.names:
            require(name in self._reads, f"layer {name!r} is not used in a forward pass; leave it out of the network")
            read = self._reads[name]
            require(
                read.versions == (read.inputs._version, read.outputs._version),
                f"the network overwrites what layer {name!r} reads or returns (an in-place operation); gradients by "
                "class need both, so write the result elsewhere",
            )

    @staticmethod
    def _twice(name: str) -> str:
        return (
            f"layer {name!r} is used twice in a forward pass; gradients by class need layers that are used once, so "
            "use another network"
        )


def _twin(network: nn.Module) -> nn.Module:
    """The same network on the same memory, its weights without gradients (which would be computed and dropped), nothing
    in place (a convolution's outputs are needed, also where ReLU comes next), norms and pools as `fast_layers.py`."""
    held: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    held |= {id(buffer): buffer for buffer in network.buffers()}
    twin = copy.deepcopy(network, held)
    for module in twin.modules():
        if getattr(module, "inplace", False):
            cast(Any, module).inplace = False
    use_fast_layers(twin)
    return twin


def _weighted(layer: Layer, inputs: torch.Tensor, grads: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[g, c, out, k] of a layer's inputs and dL/dz, both [c*n, ...], and weights [g, c, n] on the CPU."""
    groups, classes, n = weights.shape
    runs = _runs(weights)
    moved = weights.to(grads.device, non_blocking=True)
    if len(runs) <= max(groups, RUNS):
        sums = _sums(layer, inputs, grads, n, runs).flatten(3)
        each = moved[:, :, [start for start, _ in runs]]
        return (each.permute(0, 2, 1)[..., None, None] * sums).sum(1)
    shape = (classes * n, *(1,) * (grads.ndim - 1))
    scaled = [_sums(layer, inputs, grads * row.reshape(shape), n, [(0, n)]) for row in moved]
    return torch.cat(scaled).flatten(3)


def _runs(weights: torch.Tensor) -> list[tuple[int, int]]:
    """(start, stop) of samples next to each other that have the same weights [g, c, n] in all groups and classes, those
    of no weight left out."""
    columns = weights.flatten(0, 1).T
    changes = (columns[1:] != columns[:-1]).any(1).nonzero().flatten().add(1).tolist()
    edges = [0, *changes, len(columns)]
    runs = [(a, b) for a, b in pairwise(edges) if bool(columns[a].any())]
    return runs or [(0, len(columns))]


def _sums(layer: Layer, inputs: torch.Tensor, grads: torch.Tensor, n: int, runs: list[tuple[int, int]]) -> torch.Tensor:
    """The unweighted sums over the samples of each run: [runs, c, out, in, ...]."""
    if isinstance(layer, nn.Conv2d):
        found: torch.Tensor = _Correlation.apply(inputs, grads, layer, n, runs)
        return found
    read, produced = (part.reshape(len(part) // n, n, -1, part.shape[-1]) for part in (inputs, grads))
    parts = ((produced[:, a:b].flatten(1, 2), read[:, a:b].flatten(1, 2)) for a, b in runs)
    return torch.stack([torch.bmm(of.transpose(1, 2), by) for of, by in parts])
