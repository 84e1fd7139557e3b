"""Losses of teachers and students. Logits [m, c] may have any float type, the maths is fp32, every loss is a scalar.

`LOSSES` names the losses for students. Each entry says whether the loss takes distributions or raw logits as targets,
and whether it also takes the class numbers of the images; targets are then a pair, soft and hard.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F

from dcpipe.types import DataError, require

Loss = Callable[[torch.Tensor, Any], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy with hard labels i64 [m]."""
    return F.cross_entropy(logits.float(), labels)


def check_temperature(temperature: float) -> None:
    """Raises `DataError` unless the temperature is a finite number above 0: at 0 targets are NaN, below 0 inverted."""
    # Beyond these, logits divided by it are infinite or all 0 in fp32.
    require(
        isinstance(temperature, numbers.Real) and 1e-30 <= temperature <= 1e30,
        f"temperature is {temperature}; give a finite number above 0, such as 1.0",
    )


def soften(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """softmax(logits / T) in fp32. Raises `DataError` for a temperature that is not a finite number above 0."""
    check_temperature(temperature)
    return F.softmax(logits.float() / temperature, dim=1)


def divergence(temperature: float, *, scaled: bool = True) -> Loss:
    """KL(target || student) at a temperature, mean over the batch; times T^2 (Hinton et al., 2015) if `scaled`.

    The target is a distribution [m, c] that is already softened: see `soften`.
    """
    weight = temperature**2 if scaled else 1.0

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_student = F.log_softmax(logits.float() / temperature, dim=1)
        return F.kl_div(log_student, target, reduction="batchmean") * weight

    return loss


def with_cross_entropy(soft: Loss, gamma: float) -> Loss:
    """soft(student, target) + gamma * CE(student, class of the image).

    The class is that of the image itself, even if another image is pasted into it. The target is a pair: the target of
    `soft`, and hard labels i64 [m].
    """

    def loss(logits: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return soft(logits, target[0]) + gamma * cross_entropy(logits, target[1])

    return loss


def squared_error(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over batch and classes of (student - teacher)^2 for raw logits f32 [m, c]."""
    return F.mse_loss(logits.float(), target)


def among(soft: Loss, classes: torch.Tensor) -> Loss:
    """`soft` for distributions that are 0 outside of these classes, i64 [k]: of the student's logits of these classes
    alone, plus the mean of -log of the probability that the student gives to these classes together.

    The latter has no temperature, because it is certain that the class is one of these. For a divergence over all
    classes at a temperature T, the logits of the others would have to be smaller by several times T, and at T = 20 this
    outweighs all that the labels tell.
    """

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        own = logits.float()[:, classes]
        mass = torch.logsumexp(own, 1) - torch.logsumexp(logits.float(), 1)
        return soft(own, target[:, classes]) - mass.mean()

    return loss


@dataclass(frozen=True)
class StudentLoss:
    """A loss for students.

    Attributes:
        soft: called with a temperature; returns the loss of soft targets.
        space: what its soft targets are.
        hard: whether gamma CE is added; targets are then pairs that include the class numbers.
    """

    soft: Callable[[float], Loss]
    space: Literal["probabilities", "logits"] = "probabilities"
    hard: bool = False

    def make(self, temperature: float, gamma: float, classes: torch.Tensor | None = None) -> Loss:
        """The loss; if soft targets are 0 outside of some `classes`, as `among` has it."""
        soft = self.soft(temperature) if classes is None else among(self.soft(temperature), classes)
        return with_cross_entropy(soft, gamma) if self.hard else soft


LOSSES: dict[str, StudentLoss] = {
    "kl": StudentLoss(divergence),  # T^2 KL: Hinton, SCORE, SRe2L on Tiny-ImageNet
    # KL without T^2: RDED, SRe2L on ImageNet-1k and CIFAR-100
    "kl_plain": StudentLoss(partial(divergence, scaled=False)),
    "kl_ce": StudentLoss(divergence, hard=True),  # T^2 KL + gamma CE
    # Squared error + gamma CE, no temperature: G-VBSM, EDC
    "mse_gt": StudentLoss(lambda temperature: squared_error, "logits", hard=True),
}


def choose(name: str, gamma: float) -> StudentLoss:
    """The loss with this name. Raises `DataError` for an unknown name, and for a `gamma` that the loss does not use."""
    if name not in LOSSES:
        raise DataError(f"evaluation: unknown loss {name!r}; choose one of {', '.join(LOSSES)}")
    with_gamma = " or ".join(other for other, loss in LOSSES.items() if loss.hard)
    require(
        LOSSES[name].hard or gamma == 0,
        f"evaluation: gamma is {gamma:g}, but loss {name!r} has no cross-entropy term; set gamma to 0, or choose "
        f"{with_gamma}",
    )
    return LOSSES[name]
