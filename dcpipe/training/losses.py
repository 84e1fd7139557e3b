"""Losses of teachers and students. Logits [m, c] may have any float type, the maths is fp32, every loss is a scalar.

`LOSSES` names the losses for students. Each entry says whether the loss takes distributions or raw logits as targets,
and whether it also takes the class numbers of the images; targets are then a pair, soft and hard.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class StudentLoss:
    """A loss for students.

    Attributes:
        make: called with (temperature, gamma); returns the loss.
        space: what its soft targets are.
        hard: whether targets are pairs that include the class numbers.
    """

    make: Callable[[float, float], Loss]
    space: Literal["probabilities", "logits"] = "probabilities"
    hard: bool = False


def _kl(temperature: float, gamma: float) -> Loss:
    return divergence(temperature)


def _kl_plain(temperature: float, gamma: float) -> Loss:
    return divergence(temperature, scaled=False)


def _kl_ce(temperature: float, gamma: float) -> Loss:
    return with_cross_entropy(divergence(temperature), gamma)


def _mse_gt(temperature: float, gamma: float) -> Loss:
    return with_cross_entropy(squared_error, gamma)


LOSSES: dict[str, StudentLoss] = {
    "kl": StudentLoss(_kl),  # T^2 KL: Hinton, SCORE, SRe2L on Tiny-ImageNet
    "kl_plain": StudentLoss(_kl_plain),  # KL without T^2: RDED, SRe2L on ImageNet-1k and CIFAR-100
    "kl_ce": StudentLoss(_kl_ce, hard=True),  # T^2 KL + gamma CE
    "mse_gt": StudentLoss(_mse_gt, "logits", hard=True),  # squared error + gamma CE, no temperature: G-VBSM, EDC
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
