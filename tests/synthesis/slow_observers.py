"""Teachers for tests of observers, a network with every trap, and statistics the slow way: pixel by pixel, float64."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from dcpipe import networks
from dcpipe.types import FloatArray, Teacher

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Odd(nn.Module):
    """Sides that are no multiples of a patch, 1x1 inputs, operations in place, and a layer that is never used."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.unused = nn.BatchNorm2d(3)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.middle = nn.BatchNorm2d(6)
        self.gate = nn.Conv2d(6, 6, 1)
        self.mix = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, n_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = self.relu(self.middle(self.down(self.relu(self.norm(self.stem(inputs))))))
        values = values * torch.sigmoid(self.gate(values.mean((2, 3), keepdim=True)))
        added = self.last(self.mix(values))
        added += values
        return self.head(self.relu(added).mean((2, 3)))


def teacher_of(name: str, size: int, n_classes: int = 3) -> Teacher:
    """Random weights; running statistics and affine maps that differ from their initial ones."""
    torch.manual_seed(1)
    network = networks.build(name, n_classes, size)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    classes = tuple(f"class {c}" for c in range(n_classes))
    return Teacher(name, network.state_dict(), classes, MEAN, STD, size, {})


def resized(image: FloatArray, height: int, width: int) -> FloatArray:
    """Bilinear, pixel by pixel: [c, h, w] -> [c, height, width], pixels' centres at halves, edges repeated."""
    out = np.empty((len(image), height, width))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * image.shape[1] / height - 0.5, 0.0)
            x = max((column + 0.5) * image.shape[2] / width - 0.5, 0.0)
            top, left = int(y), int(x)
            below, right = min(top + 1, image.shape[1] - 1), min(left + 1, image.shape[2] - 1)
            upper = image[:, top, left] * (1 - x + left) + image[:, top, right] * (x - left)
            lower = image[:, below, left] * (1 - x + left) + image[:, below, right] * (x - left)
            out[:, row, column] = upper * (1 - y + top) + lower * (y - top)
    return out


def inputs_of(teacher: Teacher, images: FloatArray, layers: str) -> dict[str, tuple[str, FloatArray]]:
    """Kind and input f64 [n, c, h, w] of every observed layer, in the order of `named_modules`."""
    network = copy.deepcopy(networks.from_teacher(teacher, torch.device("cpu"))).double()
    kinds = {nn.BatchNorm2d: "bn"} | ({nn.Conv2d: "conv"} if layers == "bn+conv" else {})
    caught: dict[str, FloatArray] = {}
    named = {name: (kinds[type(module)], module) for name, module in network.named_modules() if type(module) in kinds}
    for name, (_, module) in named.items():
        module.register_forward_pre_hook(lambda _, given, name=name: caught.update({name: given[0].numpy().copy()}))
    colours = [np.array(values)[:, None, None] for values in (MEAN, STD)]
    with torch.no_grad():
        network(torch.from_numpy((images - colours[0]) / colours[1]))
    return {name: (kind, caught[name]) for name, (kind, _) in named.items() if name in caught}


def pooled(watched: dict[str, tuple[str, FloatArray]], rows: list[int], patch: int) -> FloatArray:
    """Mean and variance f64 [2, entries] over all pixels of some images together."""
    means, variances = [], []
    for kind, values in watched.values():
        some = values[rows]
        groups = [some[:, channel] for channel in range(some.shape[1])]
        if kind == "conv":
            high, wide = -(-some.shape[2] // patch), -(-some.shape[3] // patch)
            large = np.stack([resized(image, high * patch, wide * patch) for image in some])
            for y in range(high):
                rows_of = large[:, :, y * patch : (y + 1) * patch]
                groups += [rows_of[..., x * patch : (x + 1) * patch] for x in range(wide)]
        means += [group.mean() for group in groups]
        variances += [group.var() for group in groups]
    return np.array([means, variances])
