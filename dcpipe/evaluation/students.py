"""Evaluation: students are trained from scratch on a condensed set and scored on test after the last epoch.

The numbers of a protocol come from `dcpipe.config.protocols` and params.yaml; this module applies them. With hard
labels, students train with cross-entropy instead of the protocol's loss; everything else is the same. Whatever their
source, labels belong to the pixels that the student sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcpipe import networks, training, views
from dcpipe.config import protocols
from dcpipe.config.params import EvaluationBlock, SoftLabelsBlock
from dcpipe.dataset import CondensedDataset, CondensedLoader
from dcpipe.dataset.targets import HardLabels, Labels
from dcpipe.training import Batch, Recipe, losses
from dcpipe.types import Colour, IntArray, require


@dataclass(frozen=True)
class Protocol:
    """Everything that a score depends on, apart from the data and the seed. `loss` is a name in `losses.LOSSES`,
    `gamma` the weight of its cross-entropy with hard labels; `name` is the name that scores report. `best_of`: number
    of tests in the course of training, of which the best counts; 1 for the one after the last epoch. `curve`: number of
    further tests, evenly spaced, which are recorded but do not count."""

    name: str
    student: str
    recipe: Recipe
    batch_size: int
    temperature: float
    loss: str = "kl"
    gamma: float = 0.0
    best_of: int = 1
    curve: int = 0

    def __post_init__(self) -> None:
        losses.choose(self.loss, self.gamma)
        require(self.best_of >= 1, f"evaluation: best_of is {self.best_of}; give 1 or more tests")

    @property
    def test_epochs(self) -> frozenset[int]:
        """The epochs after which a test counts: the last one, and others evenly spaced before it."""
        return _evenly(self.recipe.epochs, self.best_of)

    @property
    def all_test_epochs(self) -> frozenset[int]:
        """The epochs after which a student is tested, whether the test counts or not."""
        return self.test_epochs | _evenly(self.recipe.epochs, min(self.curve, self.recipe.epochs))

    def target_temperature(self, labels: Labels) -> float | None:
        """The temperature of the targets that a dataset with such labels must give; None for raw logits."""
        logits = losses.LOSSES[self.loss].space == "logits" and not isinstance(labels, HardLabels)
        return None if logits else self.temperature


def protocol_of(block: EvaluationBlock, labels: SoftLabelsBlock | None = None) -> Protocol:
    """How students are trained: the protocol that `block` names, with the changes that params.yaml makes. The changes
    are part of its name, including changes of how views are drawn if `labels` is given.

    Raises `DataError` for a learned rate that is not filled in (`EvaluationBlock.at_rate`)."""
    block = block.at_rate(None)
    chosen = block.model_dump(include={field.name for field in fields(Recipe)})
    recipe = Recipe(**chosen | {"milestones": tuple(block.milestones)})
    drawn = None if labels is None else {**labels.augmentation.model_dump(), "mix": labels.mix}
    best = "" if block.best_of == 1 else f"; best of {block.best_of} tests on test"
    return Protocol(
        name=protocols.describe(block, drawn) + best,
        student=block.student,
        recipe=recipe,
        batch_size=block.batch_size,
        temperature=block.temperature,
        loss=block.loss,
        gamma=block.gamma,
        best_of=block.best_of,
    )


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
    test: Callable[[nn.Module], float] | None = None,
    start: nn.Module | None = None,
    extra: Callable[[nn.Module], torch.Tensor] | None = None,
    classes: IntArray | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a new student by the protocol. Returns the network after the last epoch and one row (epoch, loss, lr) per
    epoch. The rows of epochs after which it was tested also have `accuracy`, the result of `test`.

    The seed determines the initial weights and the order of items; views are those of the dataset. With `start`, a copy
    of this network goes on from its weights instead of a new one. `extra` of the network is added to the loss.
    `classes` i64 [k] are those outside of which soft labels are 0, if they do not tell of all (`losses.among`).
    """
    torch.manual_seed(seed)
    network = networks.build(protocol.student, n_classes, dataset.size) if start is None else copy.deepcopy(start)
    loader = CondensedLoader(
        dataset, protocol.batch_size, seed=seed, finish=partial(views.normalise, mean=mean, std=std)
    )
    told = None if classes is None else torch.from_numpy(classes).to(device)
    plain, batches = _loss_and_batches(dataset, protocol, loader, told)

    def loss(logits: torch.Tensor, target: Any) -> torch.Tensor:
        value = plain(logits, target)
        return value if extra is None else value + extra(network)

    def evaluate(network: nn.Module, epoch: int) -> dict[str, float]:
        return {"accuracy": test(network)} if test is not None and epoch in protocol.all_test_epochs else {}

    return training.fit(
        network,
        batches,
        loss,
        protocol.recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        report=report,
        evaluate=evaluate,
    )


def training_losses(
    network: nn.Module, dataset: CondensedDataset, protocol: Protocol, *, mean: Colour, std: Colour
) -> Iterator[torch.Tensor]:
    """The parts, one per batch, whose sum is the mean loss that the protocol trains with, over the items of epoch 0 in
    their order: every image in the same view, so that the loss is a function of the network alone."""
    loader = CondensedLoader(
        dataset, protocol.batch_size, shuffle=False, finish=partial(views.normalise, mean=mean, std=std)
    )
    loss, batches = _loss_and_batches(dataset, protocol, loader)
    for inputs, target in batches(0):
        yield loss(network(inputs), target) * (len(inputs) / len(dataset))


def _loss_and_batches(
    dataset: CondensedDataset, protocol: Protocol, loader: CondensedLoader, classes: torch.Tensor | None = None
) -> tuple[losses.Loss, Callable[[int], Iterable[Batch]]]:
    """The loss and the batches that it needs. Raises `DataError` if the soft targets have another temperature than the
    loss requires."""
    if isinstance(dataset.labels, HardLabels):
        return losses.divergence(1.0), loader.batches  # KL to a one-hot target at T = 1 is cross-entropy
    expected, found = protocol.target_temperature(dataset.labels), dataset.temperature
    require(
        found == expected,
        f"evaluation: the dataset gives {_targets(found)}, but loss {protocol.loss!r} of protocol {protocol.name!r} "
        f"takes {_targets(expected)}; make the dataset with temperature={expected}",
    )
    chosen = losses.choose(protocol.loss, protocol.gamma)
    loss = chosen.make(protocol.temperature, protocol.gamma, classes)
    return loss, loader.with_hard if chosen.hard else loader.batches


def _evenly(epochs: int, tests: int) -> frozenset[int]:
    """So many of the epochs, evenly spaced and ending with the last."""
    return frozenset(epochs * test // tests - 1 for test in range(1, tests + 1))


def _targets(temperature: float | None) -> str:
    return "raw logits" if temperature is None else f"probabilities at T = {temperature:g}"
