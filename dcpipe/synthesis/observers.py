"""Observers: networks that measure the distribution of the inputs of their layers, image by image.

Methods that match statistics (SRe2L, G-VBSM, EDC) compare means and variances of real and synthetic images at the input
of BatchNorm and convolution layers. All of them follow from two numbers an image i and an *entry* e, the mean m[i, e]
and the biased variance v[i, e]. An entry is a channel of an observed input, taken over its pixels, or a patch of a
convolution's input, taken over the pixels of the patch and all channels (G-VBSM, Shao et al., CVPR 2024). A group of
images with weights w that add up to 1 then has, by the law of total variance,

    mean[e] = sum_i w_i m[i, e],    variance[e] = sum_i w_i (v[i, e] + (m[i, e] - mean[e])^2),

which, with equal weights, are exactly the mean and the biased variance over the pixels of all images. So one function
`measure` serves the real images (`statistics.py`) and every loss on synthetic ones.

Cost in addition to the forward pass: two reads of each observed input (three with patches), and in the backward pass
one sweep over it for each of its two kinds of entries. Inputs are not copied, except those whose sides are not
divisible by the side of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import networks, views
from dcpipe.types import Teacher, require

Layers = Literal["bn", "bn+conv"]
LARGE = (
    128  # from so many pixels a side on, patches have 16 pixels a side, else 4 (EDC's code: 16 at 224, 4 at 32 and 64)
)
Kind = Literal["bn", "conv", "patch"]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Segment:
    """The entries start..stop-1, which one norm compares: channels of the input of a BatchNorm (`bn`) or of a
    convolution (`conv`), or patches of the latter (`patch`) in row-major order."""

    layer: str
    kind: Kind
    start: int
    stop: int


class _Moments(torch.autograd.Function):
    """Mean and biased variance over some dimensions, in at least float32.

    The backward pass is written by hand, because the gradient is one sweep, x * a + b with a and b constant over those
    dimensions. It needs only x itself, which the observed layer saves anyway.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, dims: tuple[int, ...]) -> Pair:
        full = _full(inputs)
        if inputs.is_cuda:
            variance, mean = torch.var_mean(full, dims, correction=0, keepdim=True)
        else:  # one pass is five to ten times slower on a CPU than two
            mean = full.mean(dims, keepdim=True)
            variance = (full - mean).square_().mean(dims, keepdim=True)
        ctx.save_for_backward(inputs, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        inputs, mean = ctx.saved_tensors
        share = mean.numel() / inputs.numel()
        grad = grads[1] * (2 * share)
        offset = grads[0] * share - grad * mean
        full = _full(inputs)
        if inputs.is_cuda or grad.shape[-1] > 1:
            return torch.addcmul(offset, full, grad).to(inputs.dtype), None
        # Where the last dimension is broadcast, addcmul takes twice as long on a CPU as these two operations.
        return torch.mul(full, grad).add_(offset).to(inputs.dtype), None


def _full(values: torch.Tensor) -> torch.Tensor:
    """Half precision converted to float32, because a sum of squares of thousands of bfloat16 numbers is meaningless."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _moments(inputs: torch.Tensor, dims: tuple[int, ...]) -> Pair:
    """Mean and biased variance over `dims`, which remain as dimensions of size 1."""
    pair: Pair = _Moments.apply(inputs, dims)
    return pair


def _channels(inputs: torch.Tensor) -> Pair:
    """Mean and variance of each channel over its pixels: [m, c, h, w] -> 2 x [m, c]."""
    mean, variance = _moments(inputs, (2, 3))
    return mean.flatten(1), variance.flatten(1)


def _patches(inputs: torch.Tensor, side: int) -> Pair:
    """Mean and variance of each patch of side x side pixels over its pixels and all channels: [m, c, h, w] -> 2 x [m,
    patches].

    Inputs whose sides are not multiples of `side` are resized bilinearly to the next multiple. The variance is computed
    by the law of total variance from that of each pixel over the channels, which avoids a difference of large squares.
    """
    height, width = (-(-pixels // side) for pixels in inputs.shape[2:])
    goal = (height * side, width * side)
    if inputs.shape[2:] == (1, 1):
        goal, side = (1, 1), 1  # enlarged, it would be the same numbers again and again
    if inputs.shape[2:] != goal:
        inputs = F.interpolate(_full(inputs), goal, mode="bilinear", align_corners=False)
    mean, within = _moments(inputs, (1,))
    blocks = mean.view(len(mean), height, side, width, side)
    patch, between = _moments(blocks, (2, 4))
    return patch.flatten(1), (between.view(len(mean), 1, height, width) + F.avg_pool2d(within, side)).flatten(1)


def _kinds(module: nn.Module) -> tuple[Kind, ...]:
    return ("conv", "patch") if isinstance(module, nn.Conv2d) else ("bn",)


class Observer:
    """A teacher whose BatchNorm and convolution inputs are measured. It is in evaluation mode, and its weights are
    frozen.

    `segments` describe the entries, with layers in the order of `named_modules`. `patch`: side in pixels; None means 16
    where the network sees at least 128 pixels, else 4. `layers="bn"` measures only BatchNorm inputs, at a fraction of
    the cost.

    Raises `DataError` for a network without such layers, and for one that uses a layer more than once per forward pass.
    """

    def __init__(
        self,
        name: str,
        teacher: Teacher,
        device: torch.device,
        *,
        layers: Layers = "bn+conv",
        patch: int | None = None,
    ) -> None:
        valid = " or ".join(get_args(Layers))
        require(layers in get_args(Layers), f"observer {name!r}: layers must be {valid}, got {layers!r}")
        require(patch is None or patch >= 1, f"observer {name!r}: patch must be at least 1 pixel, got {patch}")
        self.name, self.device, self.n_classes = name, device, len(teacher.classes)
        self.network = networks.from_teacher(teacher, device)
        self._teacher = teacher
        self._patch = patch or (16 if teacher.network_size >= LARGE else 4)
        self._recorded: dict[str, list[Pair]] | None = None
        kinds = (nn.BatchNorm2d,) if layers == "bn" else (nn.BatchNorm2d, nn.Conv2d)
        watched = {key: module for key, module in self.network.named_modules() if isinstance(module, kinds)}
        for key, module in watched.items():
            module.register_forward_pre_hook(partial(self._record_input, key))
        self.segments = self._probe(watched)
        lacking, remedy = (
            ("BatchNorm2d", ", or choose a method that observes convolutions too (gvbsm, edc)")
            if layers == "bn"
            else ("BatchNorm2d or Conv2d", "")
        )
        require(
            bool(self.segments),
            f"observer {name!r}: network {teacher.network!r} has no {lacking} layer to observe; leave it out{remedy}",
        )
        self.entries = self.segments[-1].stop

    def _probe(self, watched: dict[str, nn.BatchNorm2d | nn.Conv2d]) -> tuple[Segment, ...]:
        """The entries of a forward pass. Layers that it does not use, such as those of auxiliary heads, are left
        out."""
        size = self._teacher.size
        with torch.no_grad():
            _, recorded = self._forward(torch.zeros(1, 3, size, size, device=self.device))
        segments: list[Segment] = []
        for key in (key for key in watched if key in recorded):
            for kind, (mean, _) in zip(_kinds(watched[key]), recorded[key], strict=True):
                start = segments[-1].stop if segments else 0
                segments.append(Segment(key, kind, start, start + mean.shape[1]))
        return tuple(segments)

    def _record_input(self, key: str, module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        """Measure the input of a layer before this layer, or an in-place layer after it, can change it."""
        if self._recorded is None:
            return
        require(
            key not in self._recorded,
            f"observer {self.name!r}: network {self._teacher.network!r} uses layer {key!r} more than once per "
            "forward pass, so the statistics of its input are not defined; leave this observer out",
        )
        pairs = [_channels(arguments[0])]
        if isinstance(module, nn.Conv2d):
            pairs.append(_patches(arguments[0], self._patch))
        self._recorded[key] = pairs

    def _forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, dict[str, list[Pair]]]:
        """Logits, and the statistics that the hooks recorded."""
        recorded: dict[str, list[Pair]] = {}
        self._recorded = recorded
        try:
            return self.logits(inputs), recorded
        finally:
            self._recorded = None

    def measure(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits [m, c], means and biased variances f32 [m, entries] of inputs f32 [m, 3, s, s] in [0, 1].

        Differentiable twice w.r.t. the inputs, which are normalised with the mean and deviation of the teacher. May run
        under autocast: statistics are computed in float32 (float64 if network and inputs are float64). Raises
        `DataError` for another image size.
        """
        size, found = self._teacher.size, tuple(inputs.shape[1:])
        shape = " x ".join(map(str, found))
        require(
            found == (3, size, size),
            f"observer {self.name!r} was trained at {size} pixels, images are {shape}; train it again",
        )
        logits, recorded = self._forward(inputs)
        pairs = [pair for key in dict.fromkeys(segment.layer for segment in self.segments) for pair in recorded[key]]
        means, variances = (torch.cat(parts, 1) for parts in zip(*pairs, strict=True))
        return logits, means, variances

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits [m, c], without measuring statistics."""
        seen = views.normalise(inputs, self._teacher.mean, self._teacher.std)
        if seen.is_cuda:
            seen = seen.contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = self.network(seen)
        return _full(logits)

    def running(self) -> Pair:
        """Running mean and variance f32 [entries] of BatchNorm layers, which belong to the views that the teacher was
        trained on; NaN for entries of convolutions, and for a BatchNorm that does not track running statistics."""
        mean, variance = torch.full((2, self.entries), float("nan"), device=self.device)
        for segment in self.segments:
            module = self.network.get_submodule(segment.layer)
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                assert module.running_var is not None
                mean[segment.start : segment.stop] = module.running_mean
                variance[segment.start : segment.stop] = module.running_var
        return mean, variance
