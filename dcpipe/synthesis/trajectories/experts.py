"""Expert trajectories: the weights of networks after every epoch of training on the real images.

Each expert is a file of its own, `weights` f32 [epochs + 1, p] in the order of `named_parameters`, from which single
rows are read. Experts depend on the real images and on their own settings, not on the condensed set, so they are kept
in the folder that runs with the same images share. A killed run continues an expert after its last saved epoch:
training has no momentum, so a row of weights is its whole state.

MTT trains 100 experts for 50 epochs: SGD with rate 0.01, no momentum and no decay, batches of 256, under DSA's
augmentation. f32, because differences between rows are small. Size: 4 (epochs + 1) p bytes each; ConvNet-D3 of width
128 for 10 classes has p = 320,010, so 6.5 GB for 100 experts of 50 epochs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from dcpipe import networks, training
from dcpipe.random import Draw, Stream, permutation, philox, torch_seed
from dcpipe.store.files import replacing
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import DataError, require


@dataclass(frozen=True)
class Recipe:
    """How experts are trained: `epochs` epochs of `network` for `classes` classes of images of `size` pixels."""

    network: str
    classes: int
    size: int
    epochs: int
    teaching: Teaching
    seed: int

    def path(self, folder: Path, number: int) -> Path:
        """The file of an expert; its name covers everything but the images that its weights are a function of."""
        return folder / f"expert-{hashlib.sha256(repr(self).encode()).hexdigest()[:16]}-{number:04d}.safetensors"

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
    opened = path.with_suffix(".open.pt")
    network = recipe.untrained(number).to(real.pixels.device)
    student, seed, n = Student(network), recipe.own_seed(number), len(real.labels)
    rows = [student.flat().cpu()]
    if opened.exists():
        saved = torch.load(opened, map_location="cpu", weights_only=True)
        rows = list(saved["weights"])
        student.set(rows[-1])
    optimizer, parts = recipe.teaching.optimizer(network), -(-n // recipe.teaching.batch)
    for epoch in range(len(rows) - 1, recipe.epochs):
        order = torch.from_numpy(permutation(seed, Stream.MATCHER_EPOCH + epoch, n))
        for part, some in enumerate(torch.split(order, recipe.teaching.batch)):
            labels = real.labels[some.to(real.labels.device)]
            recipe.teaching.step(network, optimizer, real.take(some.numpy()), labels, seed, epoch * parts + part)
        rows.append(student.flat().cpu())
        require(
            bool(rows[-1].isfinite().all()),
            f"synthesis: the weights of expert {number} became NaN or infinite in epoch {epoch + 1}; lower expert_lr "
            f"({recipe.teaching.lr})",
        )
        training.save_checkpoint(opened, {"weights": torch.stack(rows)})
        report(epoch + 1)
    weights = torch.stack(rows)
    with replacing(path) as partial:
        save_file({"weights": weights}, partial)
    opened.unlink(missing_ok=True)
    return path


def read(path: Path, *epochs: int) -> list[torch.Tensor]:
    """The weights f32 [p] of an expert after some epochs. Raises `DataError` for a missing or damaged file."""
    try:
        with safe_open(path, framework="pt") as stream:
            rows = stream.get_slice("weights")
            return [rows[epoch] for epoch in epochs]
    except (SafetensorError, OSError) as error:
        raise DataError(f"expert {path} cannot be read ({error}); remove the file and run again") from error
