"""The one training loop: teachers and students differ only in the batches, the loss and the recipe passed in.

Everything random is a function of (seed, epoch), so a run that is killed and resumed from its last checkpoint
ends with the same weights as an unbroken one (on one machine's CPU).
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dcpipe.types import DataError, require

Batch = tuple[torch.Tensor, Any]  # normalised inputs on the device, and whatever the loss takes as target
CHECKPOINT_SECONDS = "5"  # DCPIPE_CHECKPOINT_SECONDS overrides it


@dataclass(frozen=True)
class Recipe:
    """How long and how to optimise. `schedule` is a name in `SCHEDULES`, `zeta` its smoothing factor;
    `ema` is the decay per step of averaged weights (0: off), which then are the result."""

    epochs: int
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "smoothing"
    zeta: float = 1.0
    ema: float = 0.0
    amp: bool = True

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"training: epochs must be at least 1, got {self.epochs}")
        require(0 <= self.ema < 1, f"training: ema must be in [0, 1), got {self.ema}")
        _choose("optimizer", self.optimizer, OPTIMIZERS)
        _choose("schedule", self.schedule, SCHEDULES)


def smoothing(epoch: int, epochs: int, zeta: float) -> float:
    """(1 + cos(pi e / (zeta N))) / 2: EDC's smoothing LR; zeta = 1 is the plain cosine, zeta = 2 ends at one half."""
    return (1.0 + math.cos(math.pi * epoch / (zeta * epochs))) / 2.0


def constant(epoch: int, epochs: int, zeta: float) -> float:
    """No schedule."""
    return 1.0


def _sgd(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay, nesterov=True)


def _adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {"smoothing": smoothing, "constant": constant}
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float, float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


def _choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise DataError(f"training: unknown {kind} {name!r}; choose one of {', '.join(table)}")
    return table[name]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy with hard labels i64 [m]."""
    return F.cross_entropy(logits, labels)


def divergence(temperature: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """KL(target || student) at a temperature, times T^2 (Hinton et al., 2015), mean over the batch.

    The target is a distribution [m, c], already softened: see `soften`.
    """

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_student = F.log_softmax(logits.float() / temperature, dim=1)
        return F.kl_div(log_student, target, reduction="batchmean") * temperature**2

    return loss


def soften(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """softmax(logits / T) in fp32."""
    return F.softmax(logits.float() / temperature, dim=1)


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU when there is one, else the CPU; raises `DataError` when a named device is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    require(
        device.type != "cuda" or torch.cuda.is_available(),
        f"device {name!r} asked for, but no GPU is visible; use auto or cpu",
    )
    return device


def fit(
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    loss: Callable[[torch.Tensor, Any], torch.Tensor],
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train `network` on `batches(epoch)` and return it (its average where `recipe.ema`) with a row an epoch.

    `checkpoint` names a file the run goes on from if it exists; it is written at most every few seconds, and
    once at the end. Raises `DataError` when the loss stops being finite.
    """
    network = network.to(device)
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[recipe.optimizer](network.parameters(), recipe.lr, recipe.weight_decay)
    average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else None
    history: list[dict[str, float]] = []
    if checkpoint is not None and checkpoint.exists():
        history = _resume(checkpoint, network, optimizer, average, device)
    pause = float(os.environ.get("DCPIPE_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS))
    saved = time.monotonic()
    for epoch in range(len(history), recipe.epochs):
        lr = recipe.lr * SCHEDULES[recipe.schedule](epoch, recipe.epochs, recipe.zeta)
        for group in optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed((seed * 1_000_003 + epoch) % 2**64)  # dropout and the like, whatever came before
        mean_loss = _epoch(network, batches(epoch), loss, optimizer, average, recipe, device)
        require(
            math.isfinite(mean_loss),
            f"training: the loss became {mean_loss} in epoch {epoch}; lower lr ({recipe.lr})",
        )
        history.append({"epoch": epoch, "loss": mean_loss, "lr": lr})
        report(history[-1])
        last = epoch == recipe.epochs - 1
        if checkpoint is not None and (last or time.monotonic() - saved > pause):
            _save(checkpoint, network, optimizer, average, history)
            saved = time.monotonic()
    result = average if average is not None else network
    return result.eval(), history


def _epoch(
    network: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[torch.Tensor, Any], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    recipe: Recipe,
    device: torch.device,
) -> float:
    """One pass; returns the mean loss. Losses are summed on the device: no wait for the GPU in a step."""
    network.train()
    total = torch.zeros((), device=device, dtype=torch.float64)
    steps = 0
    for inputs, target in batches:
        if device.type == "cuda":
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.amp and device.type == "cuda"):
            value = loss(network(inputs), target)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if average is not None:
            _average(average, network, recipe.ema)
        total += value.detach()
        steps += 1
    require(steps > 0, "training: an epoch held no batch; is the data empty?")
    return float(total / steps)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1.0 - decay)
        else:
            slow.copy_(fast)


def _save(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    history: list[dict[str, float]],
) -> None:
    """Write beside, then rename: a kill leaves the old checkpoint or the new one."""
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "history": history,
    }
    beside = path.with_name(path.name + ".partial")
    torch.save(state, beside)
    beside.replace(path)


def _resume(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    device: torch.device,
) -> list[dict[str, float]]:
    state = torch.load(path, map_location=device, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.load_state_dict(state["average"])
    history: list[dict[str, float]] = state["history"]
    return history


@torch.no_grad()
def accuracy(network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> float:
    """Top-1 in percent over batches of (normalised inputs, labels i64)."""
    network.eval()
    right, count = torch.zeros((), device=device, dtype=torch.int64), 0
    for inputs, labels in batches:
        right += (network(inputs.to(device)).argmax(1) == labels.to(device)).sum()
        count += len(labels)
    require(count > 0, "evaluation: the split holds no images")
    return 100.0 * int(right) / count
