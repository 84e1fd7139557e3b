"""Training of experts: networks whose weights are kept after every epoch of training on the real images.

Each expert is a file of its own (`rows.py`), and a folder of them has an index (`collection.py`). A killed run
continues an expert after its last saved epoch: training has no momentum, so a row of weights is its whole state.

MTT trains 100 experts for 50 epochs: SGD with rate 0.01, no momentum and no decay, batches of 256, under DSA's
augmentation. Those of FTD and DATM look for flat minima (`gsam.py`). f32, because differences between rows are
small. Size: 4 (epochs + 1) p bytes each; ConvNet-D3 of width 128 for 10 classes has p = 320,010, so 6.5 GB for 100
experts of 50 epochs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcpipe import networks
from dcpipe.random import Draw, Stream, permutation, philox, torch_seed
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories.gsam import Gsam
from dcpipe.synthesis.trajectories.rows import Rows
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import require

_BATCH = 512  # images whose classes are predicted together


@dataclass(frozen=True)
class Recipe:
    """How experts are trained: `epochs` epochs of `network` for `classes` classes of images of `size` pixels, whitened
    with eps `whitening`, or normalised for None; with steps that look for flat minima, or SGD's for None."""

    network: str
    classes: int
    size: int
    epochs: int
    teaching: Teaching
    seed: int
    whitening: float | None = field(default=None, repr=False)  # not in the names of folders of earlier versions
    gsam: Gsam | None = field(default=None, repr=False)  # as well

    def described(self) -> dict[str, Any]:
        """All but the seed, as JSON values."""
        found = asdict(self)
        known = {**{key: found[key] for key in ("network", "classes", "size", "epochs")}, **found["teaching"]}
        if self.whitening is not None:
            known["whitening"] = self.whitening
        return known | (asdict(self.gsam) if self.gsam else {})

    def folder(self, shared: Path) -> Path:
        """The folder of these experts among those of other recipes for the same images."""
        told = repr(self) if self.whitening is None else f"{self!r}, whitening {self.whitening!r}"
        told += f", {self.gsam!r}" if self.gsam else ""
        return shared / f"experts-{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def path(self, folder: Path, number: int) -> Path:
        """The file of an expert in a folder that has no others than those of this recipe."""
        return folder / f"expert-{number:04d}.safetensors"

    def untrained(self, number: int) -> nn.Module:
        """An expert before its training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(self.own_seed(number), 0))
            return networks.build(self.network, self.classes, self.size).train()

    def own_seed(self, number: int) -> int:
        """The seed of all random numbers of an expert."""
        return int(philox(self.seed, number, Draw.EXPERT, 0)[..., 0])


def train(
    recipe: Recipe, number: int, real: RealImages, folder: Path, report: Callable[[int], None] = lambda epoch: None
) -> Path:
    """The file of an expert, trained unless it exists. `report(epoch)` is called after each epoch."""
    path = recipe.path(folder, number)
    if path.exists():
        return path
    network = recipe.untrained(number).to(real.pixels.device)
    student, seed, n = Student(network), recipe.own_seed(number), len(real.labels)
    rows = Rows(path, student.layout, recipe.epochs + 1)
    if (last := rows.last()) is None:
        rows.append(student.flat())
    else:
        student.set(last.to(real.pixels.device))
    optimizer, parts = recipe.teaching.optimizer(network), -(-n // recipe.teaching.batch)
    for epoch in range(rows.done - 1, recipe.epochs):
        order = torch.from_numpy(permutation(seed, Stream.MATCHER_EPOCH + epoch, n))
        for part, some in enumerate(torch.split(order, recipe.teaching.batch)):
            labels = real.labels[some.to(real.labels.device)]
            batch = (real.take(some.numpy()), labels, seed, epoch * parts + part)
            if recipe.gsam:
                recipe.gsam.step([*network.parameters()], optimizer, partial(recipe.teaching.loss, network, *batch))
            else:
                recipe.teaching.step(network, optimizer, *batch)
        row = student.flat()
        require(
            bool(row.isfinite().all()),
            f"synthesis: the weights of expert {number} became NaN or infinite in epoch {epoch + 1}; lower expert_lr "
            f"({recipe.teaching.lr})",
        )
        rows.append(row)
        report(epoch + 1)
    rows.finish()
    return path


@torch.no_grad()
def logits(student: Student, weights: torch.Tensor, images: Callable[[slice], torch.Tensor], n: int) -> torch.Tensor:
    """Logits f32 [n, c] of the network with weights [p]; `images` gives some of n normalised images."""
    student.set(weights)
    parts = [student.network(images(slice(first, min(first + _BATCH, n)))) for first in range(0, n, _BATCH)]
    return torch.cat(parts)


def accuracy(student: Student, weights: torch.Tensor, real: RealImages) -> float:
    """The share of the real images, without augmentation, that the network with weights [p] predicts right."""
    n = len(real.labels)
    found = logits(student, weights, lambda part: real.take(torch.arange(part.start, part.stop).numpy()), n)
    return float((found.argmax(1) == real.labels).double().mean())
