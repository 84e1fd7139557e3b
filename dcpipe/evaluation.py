"""Evaluation: students trained from scratch on a condensed set, scored once on test, at the last epoch.

A protocol's numbers come from `dcpipe.protocols` and params.yaml; here they are put to work. Hard labels train with
cross-entropy instead of the protocol's loss, everything else alike. Labels, whatever their source, are of the pixels
that the student sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dcpipe import losses, networks, training, views
from dcpipe.dataset import CondensedDataset, CondensedLoader, HardLabels, Labels
from dcpipe.training import Batch, Recipe
from dcpipe.types import require

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Protocol:
    """Everything a score depends on beside the data and the seed. `loss` is a name in `losses.LOSSES`, `gamma` the
    weight of its cross-entropy with hard labels; `name` is what scores tell."""

    name: str
    student: str
    recipe: Recipe
    batch_size: int
    temperature: float
    loss: str = "kl"
    gamma: float = 0.0

    def __post_init__(self) -> None:
        losses.choose(self.loss, self.gamma)

    def asks(self, labels: Labels) -> float | None:
        """The temperature at which a dataset of such labels must give its targets; None: raw logits."""
        logits = losses.LOSSES[self.loss].space == "logits" and not isinstance(labels, HardLabels)
        return None if logits else self.temperature


def train_student(
    dataset: CondensedDataset,
    protocol: Protocol,
    *,
    n_classes: int,
    mean: Colour,
    std: Colour,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """A fresh student after the protocol's last epoch, with a row (epoch, loss, lr) an epoch.

    The seed decides initial weights and order; views are the dataset's own.
    """
    torch.manual_seed(seed)
    network = networks.build(protocol.student, n_classes, dataset.size)
    loader = CondensedLoader(
        dataset, protocol.batch_size, seed=seed, finish=partial(views.normalise, mean=mean, std=std)
    )
    loss, batches = _job(dataset, protocol, loader)
    return training.fit(
        network, batches, loss, protocol.recipe, seed=seed, device=device, checkpoint=checkpoint, report=report
    )


def _job(
    dataset: CondensedDataset, protocol: Protocol, loader: CondensedLoader
) -> tuple[losses.Loss, Callable[[int], Iterable[Batch]]]:
    """The loss and the batches it takes; refuses soft targets at another temperature than the loss asks for."""
    if isinstance(dataset.labels, HardLabels):
        return losses.divergence(1.0), loader.batches  # KL to a one-hot target at T = 1 is cross-entropy
    asked, found = protocol.asks(dataset.labels), dataset.temperature
    require(
        found == asked,
        f"evaluation: the dataset gives {_targets(found)}, but loss {protocol.loss!r} of protocol {protocol.name!r} "
        f"takes {_targets(asked)}; make the dataset with temperature={asked}",
    )
    chosen = losses.choose(protocol.loss, protocol.gamma)
    loss = chosen.make(protocol.temperature, protocol.gamma)
    return loss, loader.with_hard if chosen.hard else loader.batches


def _targets(temperature: float | None) -> str:
    return "raw logits" if temperature is None else f"probabilities at T = {temperature:g}"
