"""Evaluation: students trained from scratch on a condensed set, scored once on test, at the last epoch.

Protocol `score` (SCORE, Sec. 6 and supplement Table 4): AdamW, KL at temperature T on soft labels of replayed views,
smoothing LR, batch size by dataset. Hard labels train with cross-entropy instead, everything else alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dcpipe import networks, training, views
from dcpipe.dataset import CondensedDataset, CondensedLoader, HardLabels
from dcpipe.training import Recipe

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Protocol:
    """Everything a score depends on beside the data and the seed."""

    name: str
    student: str
    recipe: Recipe
    batch_size: int
    temperature: float


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
    hard = isinstance(dataset.labels, HardLabels)
    # KL to a one-hot target at T = 1 is cross-entropy.
    loss = training.divergence(1.0 if hard else protocol.temperature)
    finish = partial(views.normalise, mean=mean, std=std)
    batches = CondensedLoader(dataset, protocol.batch_size, seed=seed, finish=finish).batches
    return training.fit(
        network, batches, loss, protocol.recipe, seed=seed, device=device, checkpoint=checkpoint, report=report
    )
