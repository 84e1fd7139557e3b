"""The exact weight gradients of all classes at once.

Gradient matching (DC, Zhao, Mopuri & Bilen, ICLR 2021; IDC, Kim et al., ICML 2022; MDC, He et al., ICLR 2024) compares,
for each class, the gradient of the mean cross-entropy on real images with that on synthetic ones, and needs the second
derivative w.r.t. the pixels. If no sample depends on another, the loss of a batch is the sum of the losses of the
samples, so one backward pass gives dL/dz w.r.t. the outputs z of every layer for all samples of all classes. The
gradient of a weight is linear in them:

    G[g, c] = sum_i weights[g, i] correlation(x[c, i], dL/dz[c, i]),

where x is the layer's input. Groups of samples (all of a class, or its first m: MDC's subset S[m]) differ only in their
weights and share both passes. Consecutive samples that have the same weights in every group form a *run*. Each run is
correlated once, and a group is a sum over runs. So MDC's two terms, which consist of the runs "the first m" and "the
rest", cost as much as IDC's single term. If there are too many runs for that, dL/dz is scaled and correlated once per
group.

The correlation is torch's gradient of a convolution weight, with one call per class and run. On a CPU it takes a third
to a twentieth of the time of unfolded inputs and one batched matrix product, and no memory except for its result.
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
RUNS = 8  # up to this many runs, or as many as there are groups, are correlated one by one
ON_CPU = 64  # samples in one pass on a CPU, in whole classes: the feature maps of more do not stay in its caches


def check(network: nn.Module, parameters: Parameters = "conv") -> None:
    """Raises `DataError` for a network whose per-class gradients cannot be computed in one pass, because samples depend
    on each other, or because it has weights other than those of plain convolutions (and linear layers)."""
    valid = " or ".join(get_args(Parameters))
    require(parameters in get_args(Parameters), f"parameters must be {valid}, got {parameters!r}")
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
                f"{module.padding_mode!r}; per-class gradients need 1 group and zero padding given as a number",
            )
        if isinstance(module, Layer) and id(module.weight) in owners:
            shared = f"layers {owners[id(module.weight)]!r} and {name!r} share one weight"
            require(False, f"{shared}; per-class gradients need a separate weight for each layer")
        if isinstance(module, Layer):
            owners[id(module.weight)] = name
    require(
        any(isinstance(m, nn.Conv2d) for m in network.modules()),
        "network has no convolution whose gradients could be matched",
    )
    least = 3 if parameters == "conv" else 2
    for name, tensor in network.named_parameters():
        require(
            tensor.ndim < least or id(tensor) in owners,
            f"parameter {name!r} of shape {list(tensor.shape)} is not a weight of a 2-d convolution or linear layer; "
            "per-class gradients are implemented only for these, so use another network",
        )


@dataclass(frozen=True, eq=False)
class _Read:
    """Inputs and outputs of a layer, and their versions (counts of in-place changes) when they were recorded."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    versions: tuple[int, int]


class _Correlation(torch.autograd.Function):
    """The weight gradient of a convolution for each run of each class: [runs, c, out, in, kh, kw], differentiable once.

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
    """The gradient of a convolution w.r.t. its weight, or w.r.t. its inputs, by torch's own backward function."""
    mask = [not of_weight, of_weight, False]
    settings = (layer.stride, layer.padding, layer.dilation, False, [0, 0], 1)
    found = torch.ops.aten.convolution_backward(grads, inputs, kernel, None, *settings, mask)
    gradient: torch.Tensor = found[int(of_weight)]
    return gradient


class ClassGradients:
    """Gradients of the mean cross-entropy of each class w.r.t. the weights of a network.

    These are the weights of convolutions (IDC, MDC) or of convolutions and linear layers (DC, DSA); biases and norm
    layers are left out. `names` are the layers in the order of `network.named_modules()`, which is also the order of
    the results. The parameters are shared with the network, so optimiser steps and `load_state_dict` take effect; after
    `network.to(device)` or a change of mode, make a new object. The network itself is not changed and gets no hooks.

    All classes are computed in one pass, or on a CPU as many as fit its caches. With a graph, memory can be bounded by
    calling this object and `backward` for some classes at a time, because classes do not depend on each other.

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
            layer.register_forward_hook(partial(self._record, name))
        for module in self._twin.modules():
            if not isinstance(module, nn.AdaptiveAvgPool2d | nn.Identity):
                module.register_forward_hook(self._record_features)

    def __call__(
        self, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, *, create_graph: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """sum_i weights[g, i] dCE_i/dW of the n samples of each class: [g, c, out, k] for every layer, k = in kh kw.

        `inputs` [c*n, 3, s, s] are class-major and normalised; `labels` i64 [c*n]; `weights` f32 [g, n], or [g, c, n]
        if classes have different ones: 1/n for the mean, or 1/m for the first m and 0 for the rest for the mean of a
        prefix. They should be on the CPU, where their runs are determined. With `create_graph` the result can be
        differentiated once more (w.r.t. `inputs`); without it, the result has no graph. The second result are the
        features f32 [c*n, d, h, w] without a graph: the last feature map of the network before global pooling (for
        MDC's feature distance).

        Raises `DataError` for shapes that do not fit, and for a network that uses a layer more than once, or that
        overwrites the input or output of a layer.
        """
        n = weights.shape[-1]
        classes = len(inputs) // n
        fits = len(inputs) == len(labels) == classes * n and weights.shape[1:-1] in ((), (classes,))
        require(
            fits and classes > 0,
            f"weights {list(weights.shape)} are [groups, n] or [groups, classes, n] and need n inputs and n labels per "
            f"class; got {len(inputs)} inputs, {len(labels)} labels",
        )
        every = weights.detach().to("cpu", inputs.dtype)
        every = (every[:, None] if every.ndim == 2 else every).expand(-1, classes, -1)
        step = max(1, ON_CPU // n) if inputs.device.type == "cpu" else classes
        parts = [
            self._one_pass(inputs[a * n : b * n], labels[a * n : b * n], every[:, a:b], create_graph)
            for a, b in ((a, min(a + step, classes)) for a in range(0, classes, step))
        ]
        if len(parts) == 1:
            return parts[0]
        return [torch.cat(same, 1) for same in zip(*(p[0] for p in parts), strict=True)], torch.cat(
            [p[1] for p in parts]
        )

    def _one_pass(
        self, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, create_graph: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """As `__call__`, but in one pass, with weights [g, c, n] on the CPU."""
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

    def _record(self, name: str, layer: Layer, arguments: tuple[torch.Tensor], outputs: torch.Tensor) -> torch.Tensor:
        """Record the input and output of a layer. If its input has no graph, the backward pass stops at its output."""
        require(name not in self._reads, self._twice(name))
        if not outputs.requires_grad:
            outputs = outputs.detach().requires_grad_()
        self._reads[name] = _Read(arguments[0], outputs, (arguments[0]._version, outputs._version))
        return outputs

    def _record_features(self, module: nn.Module, arguments: tuple[Any, ...], outputs: Any) -> None:
        if isinstance(outputs, torch.Tensor) and outputs.ndim == 4:
            self._features = outputs.detach()

    def _check_reads(self) -> None:
        for name in self.names:
            require(name in self._reads, f"layer {name!r} is not used in a forward pass; remove it from the network")
            read = self._reads[name]
            require(
                read.versions == (read.inputs._version, read.outputs._version),
                f"the network overwrites the input or output of layer {name!r} (an in-place operation); per-class "
                "gradients need both, so use an operation that is not in-place",
            )

    @staticmethod
    def _twice(name: str) -> str:
        return (
            f"layer {name!r} is used more than once per forward pass, so its per-class gradient is not defined; "
            "use a network without shared layers"
        )


def _twin(network: nn.Module) -> nn.Module:
    """A copy of the network that shares its memory. Its weights need no gradients (which would be computed in vain),
    nothing is done in place (the outputs of a convolution are needed even if ReLU follows), and its norms and pools are
    those of `fast_layers.py`."""
    held: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    held |= {id(buffer): buffer for buffer in network.buffers()}
    twin = copy.deepcopy(network, held)
    for module in twin.modules():
        if getattr(module, "inplace", False):
            cast(Any, module).inplace = False
    use_fast_layers(twin)
    return twin


def _weighted(layer: Layer, inputs: torch.Tensor, grads: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted gradients [g, c, out, k] from the inputs of a layer and dL/dz, both [c*n, ...], and weights [g, c, n] on
    the CPU."""
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
    """(start, stop) of consecutive samples that have the same weights [g, c, n] in all groups and classes; runs whose
    weights are all zero are left out."""
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
