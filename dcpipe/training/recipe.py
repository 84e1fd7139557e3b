"""The recipe of a training run: epochs, optimizer, learning rate and schedule, and which parameters decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import nn

from dcpipe.training import schedules
from dcpipe.training.schedules import SCHEDULES, Moment
from dcpipe.types import DataError, Precision, require


@dataclass(frozen=True)
class Recipe:
    """How long and how to optimise.

    Attributes:
        epochs: at least 1.
        optimizer: a name in `OPTIMIZERS`.
        lr: the base learning rate.
        weight_decay: applies to the parameters that `decay` selects.
        schedule: a name in `schedules.SCHEDULES`; it runs after the warm-up.
        zeta: stretches the time of the schedules `smoothing`, `linear` and `ssrs`.
        ema: decay per step of the averaged parameters, which are then the result; 0 turns averaging off.
        precision: of the network's passes, see `dcpipe.precision`.
        milestones: of the schedule `multistep`, as epochs or as fractions of them.
        decay_factor: the factor of `multistep`, or gamma of `alrs`.
        restart: whether the optimizer begins anew at every milestone of `multistep`, so that momentum starts from zero
            (the code of DC and of DC-BENCH).
        momentum, nesterov: of SGD.
        decay: which parameters decay: `all`, or `weights`, those with more than one dimension and "weight" in their
            names, as in the official code of EDC. Position embeddings, class tokens, layer scales and
            tables of relative positions (ViT, Swin, ConvNeXt) do not decay then.
        warmup: number of epochs in which the rate rises linearly.

    Raises `DataError` for values out of range, for unknown names and for options that contradict each other.
    """

    epochs: int
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "smoothing"
    zeta: float = 1.0
    ema: float = 0.0
    precision: Precision = "auto"
    milestones: tuple[float, ...] = ()
    decay_factor: float = 0.5
    restart: bool = False
    momentum: float = 0.9
    nesterov: bool = True
    decay: str = "all"
    warmup: int = 0

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"training: epochs must be at least 1, got {self.epochs}")
        require(0 <= self.ema < 1, f"training: ema must be in [0, 1), got {self.ema}")
        _choose("optimizer", self.optimizer, OPTIMIZERS)
        _choose("schedule", self.schedule, SCHEDULES)
        _choose("decay", self.decay, DECAYS)
        _choose("precision", self.precision, dict.fromkeys(get_args(Precision)))
        require(0 <= self.momentum < 1, f"training: momentum must be in [0, 1), got {self.momentum}")
        require(
            self.optimizer != "sgd" or not self.nesterov or self.momentum > 0,
            "training: nesterov needs a momentum above 0; set nesterov false or raise momentum",
        )
        _check_schedule(self)

    def rate(self, epoch: int, losses: Sequence[float]) -> float:
        """The learning rate of an epoch, given the mean losses of the epochs before it."""
        return self.lr * schedules.factor(self.schedule, self._at(epoch, losses), self.warmup)

    def rates(self, epoch: int, losses: Sequence[float], groups: int) -> list[float]:
        """The learning rates of the parameter groups of `grouped`: those of a schedule in `schedules.FIRST_GROUP`
        differ."""
        first = self.rate(epoch, losses)
        others = first
        if self.schedule in schedules.FIRST_GROUP:
            others = self.lr * schedules.factor("constant", self._at(epoch, losses), self.warmup)
        return [first] + [others] * (groups - 1)

    def restarts(self, epoch: int) -> bool:
        """Whether the optimizer begins anew before this epoch."""
        left = Moment(epoch - self.warmup, self.epochs - self.warmup, milestones=self.milestones)
        return self.restart and left.epoch in schedules.milestones_of(left)

    def _at(self, epoch: int, losses: Sequence[float]) -> Moment:
        return Moment(epoch, self.epochs, self.zeta, self.milestones, self.decay_factor, losses)


def _check_schedule(recipe: Recipe) -> None:
    require(
        0 <= recipe.warmup < recipe.epochs,
        f"training: warmup must be in 0..{recipe.epochs - 1} of {recipe.epochs} epochs, got {recipe.warmup}",
    )
    require(0 < recipe.decay_factor <= 1, f"training: decay_factor must be in (0, 1], got {recipe.decay_factor}")
    require(
        recipe.schedule != "linear" or recipe.zeta >= 1,
        f"training: schedule linear needs zeta of at least 1, got {recipe.zeta}: the rate would fall below 0",
    )
    require(
        recipe.schedule != "multistep" or len(recipe.milestones) > 0,
        "training: schedule multistep needs milestones, found none; give epochs or fractions of them, as in [0.8, 0.9]",
    )
    require(
        not recipe.restart or recipe.schedule == "multistep",
        f"training: restart needs schedule multistep, found {recipe.schedule}; set restart false, or choose multistep "
        "and give milestones",
    )
    for place in recipe.milestones:
        require(
            place >= 1 if isinstance(place, int) else 0 < place < 1,
            f"training: milestone {place} is neither an epoch (an integer from 1) nor a fraction in (0, 1)",
        )


def _sgd(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)


def _adamw(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=recipe.lr)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Recipe], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}
DECAYS: dict[str, Callable[[str, nn.Parameter], bool]] = {
    "all": lambda name, parameter: True,
    # Neither biases nor parameters of normalisation layers.
    "weights": lambda name, parameter: parameter.dim() > 1 and "weight" in name,
}


def grouped(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameter groups for the optimizer: the parameters that `recipe.decay` selects, then the others with no decay."""
    decays = DECAYS[recipe.decay]
    decayed = [parameter for name, parameter in network.named_parameters() if decays(name, parameter)]
    others = [parameter for name, parameter in network.named_parameters() if not decays(name, parameter)]
    groups = [(decayed, recipe.weight_decay), (others, 0.0)]
    return [{"params": members, "weight_decay": decay} for members, decay in groups if members]


def _choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise DataError(f"training: unknown {kind} {name!r}; choose one of {', '.join(table)}")
    return table[name]
