"""The training loop: teachers and students share it and differ only in the batches, the loss and the recipe.

Everything random is a function of (seed, epoch). So a run that is killed and resumed from its last checkpoint ends with
the same weights as an uninterrupted run (on the CPU of one machine). Several processes may train one network
(`processes.Group`); a checkpoint does not tell how many wrote it, and any number can continue from it.
"""

from __future__ import annotations

import copy
import math
import os
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcpipe.precision import autocast
from dcpipe.random import torch_seed
from dcpipe.store.files import replacing
from dcpipe.training.batchnorm import synchronised
from dcpipe.training.processes import ALONE, Group
from dcpipe.training.recipe import OPTIMIZERS, Recipe, grouped
from dcpipe.types import IntArray, require

Batch = tuple[torch.Tensor, Any]  # normalised inputs on the device, and the target that the loss takes
REPORT_SECONDS = 10.0  # between two reports within an epoch; a copy of the loss from the GPU waits for all steps
CHECKPOINT_SECONDS = "5"  # the default of DCPIPE_CHECKPOINT_SECONDS


def pick_device(name: str = "auto") -> torch.device:
    """The device with this name; `auto` is the GPU if there is one, else the CPU.

    Raises `DataError` for another name than auto, cpu, mps, cuda or cuda:N, and for a GPU that is not visible.
    """
    require(
        re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name) is not None,
        f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps (DCPIPE_DEVICE)",
    )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    require(
        device.type != "cuda" or torch.cuda.is_available(),
        f"device {name!r} was requested, but no GPU is visible; use auto or cpu",
    )
    require(
        device.type != "cuda" or (device.index or 0) < torch.cuda.device_count(),
        f"device {name!r} was requested, but {torch.cuda.device_count()} GPUs are visible; use a lower number",
    )
    require(
        device.type != "mps" or torch.backends.mps.is_available(),
        "device 'mps' was requested, but this machine has none; use auto or cpu",
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
    evaluate: Callable[[nn.Module, int], dict[str, float]] = lambda network, epoch: {},
    group: Group = ALONE,
    sync_batchnorm: bool = False,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train `network` and return it in evaluation mode, with one row (epoch, loss, lr) per epoch.

    If `recipe.ema` is set, the network with averaged parameters is returned instead.

    Args:
        network: moved to `device` and trained in place.
        batches: called with the number of each epoch; returns the batches of that epoch.
        loss: called with the logits and the target of a batch; returns a scalar.
        recipe: number of epochs, optimizer and schedule.
        seed: torch's global seed in every epoch is a function of this and of the epoch.
        device: where the network is trained.
        checkpoint: a file to resume from if it exists. It is written at most every few seconds, and once at the end.
        report: called with each row as soon as its epoch is done, and every `REPORT_SECONDS` within an epoch with its
            number, the mean loss so far and `batch`, the number of batches so far.
        evaluate: called with the network (the averaged one, if there is one) and the epoch after each epoch; what it
            returns is added to the row.
        group: the processes that train the network together. In each, `batches` gives its share of every batch, and
            `loss` is a mean over the items of a batch. All read `checkpoint`, and process 0 writes it and reports.
            Rows then have `processes`, their number.
        sync_batchnorm: whether batch norm uses the statistics of the whole batch. If not, each process uses those of
            its share, and the running statistics are those of process 0.

    Raises `DataError` if the loss is no longer finite, and if processes read different checkpoints.
    """
    network = network.to(device)
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    synced = sync_batchnorm and group.world > 1
    if synced:
        network = synchronised(network, device)
    optimizer = OPTIMIZERS[recipe.optimizer](grouped(network, recipe), recipe)
    average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else None
    history: list[dict[str, float]] = []
    if checkpoint is not None and checkpoint.exists():
        history = _resume(checkpoint, network, optimizer, average, device)
    require(
        group.agree([len(history)], device),
        f"training: the processes found different checkpoints at {checkpoint}; run all of them in the same folder of a "
        "file system that they share",
    )
    trained = group.wrapped(network, same_buffers=synced)
    pause = checkpoint_pause()
    saved = time.monotonic()
    for epoch in range(len(history), recipe.epochs):
        if recipe.restarts(epoch):
            optimizer.state.clear()
        rates = recipe.rates(epoch, [row["loss"] for row in history], len(optimizer.param_groups))
        for parameters, rate in zip(optimizer.param_groups, rates, strict=True):
            parameters["lr"] = rate
        chance = torch_seed(seed, epoch)  # for dropout and the like: independent of earlier epochs
        torch.manual_seed(torch_seed(chance, group.rank) if group.rank else chance)
        heard = partial(_report_within, report, epoch) if group.rank == 0 else None
        mean_loss = _epoch(trained, network, batches(epoch), loss, optimizer, average, recipe, device, group, heard)
        require(
            math.isfinite(mean_loss),
            f"training: the loss became {mean_loss} in epoch {epoch}; lower lr, which is {recipe.lr}",
        )
        extra = evaluate(average if average is not None else network, epoch)
        together = {"processes": group.world} if group.world > 1 else {}
        history.append({"epoch": epoch, "loss": mean_loss, "lr": rates[0], **extra, **together})
        if group.rank > 0:
            continue
        report(history[-1])
        last = epoch == recipe.epochs - 1
        if checkpoint is not None and (last or time.monotonic() - saved > pause):
            _save(checkpoint, network, optimizer, average, history)
            saved = time.monotonic()
    result = average if average is not None else network
    return result.eval(), history


def _epoch(
    trained: nn.Module,
    network: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[torch.Tensor, Any], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    recipe: Recipe,
    device: torch.device,
    group: Group,
    heard: Callable[[int, float], None] | None,
) -> float:
    """Train for one epoch and return the mean loss. Losses are summed on the device, so that steps do not wait for the
    GPU. `trained` is `network`, or contains it and averages its gradients over a group. `heard` is called every
    `REPORT_SECONDS` with the number of batches so far and their mean loss."""
    trained.train()
    told = time.monotonic()
    total = torch.zeros((), device=device, dtype=torch.float64)
    steps = 0
    for inputs, target in batches:
        if device.type == "cuda":
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with autocast(recipe.precision, device):
            value = loss(trained(inputs), target)
        if group.world > 1:  # shares of a batch may differ by one item
            value = value * group.weight(len(inputs), device)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if average is not None:
            _average(average, network, recipe.ema)
        total += value.detach()
        steps += 1
        if heard is not None and time.monotonic() - told > REPORT_SECONDS:
            heard(steps, float(total) / steps)
            told = time.monotonic()
    require(steps > 0, "training: an epoch had no batches; check that the data is not empty")
    if average is not None:
        _copy_buffers(average, network)
    return float(group.mean(total / steps))


def _report_within(report: Callable[[dict[str, float]], None], epoch: int, batch: int, loss: float) -> None:
    report({"epoch": epoch, "batch": batch, "loss": loss})


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """EDC's EMA-based evaluation: slow = decay * slow + (1 - decay) * fast for all parameters, from the first step
    on."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)


@torch.no_grad()
def _copy_buffers(average: nn.Module, network: nn.Module) -> None:
    """Copy the buffers, such as the running statistics of batch norm, of the trained network."""
    for target, latest in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(latest)


def _save(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    history: list[dict[str, float]],
) -> None:
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "history": history,
    }
    save_checkpoint(path, state)


def checkpoint_pause() -> float:
    """Seconds between two checkpoints of a long loop: DCPIPE_CHECKPOINT_SECONDS, by default 5."""
    written = os.environ.get("DCPIPE_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS)
    try:
        seconds = float(written)
    except ValueError:
        seconds = math.nan
    require(seconds >= 0, f"DCPIPE_CHECKPOINT_SECONDS is {written!r}; give a number of seconds, or unset it")
    return seconds


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values: a kill leaves the old one or the new one."""
    with replacing(path) as partial:
        torch.save(state, partial)


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
    """Top-1 accuracy in percent over batches of (normalised inputs, labels i64). Raises `DataError` for no batches."""
    network.eval()
    correct, count = torch.zeros((), device=device, dtype=torch.int64), 0
    for inputs, labels in batches:
        correct += (network(inputs.to(device)).argmax(1) == labels.to(device)).sum()
        count += len(labels)
    require(count > 0, "evaluation: the split has no images; choose one that has some")
    return 100.0 * int(correct) / count


@torch.no_grad()
def confusion(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    n_classes: int,
    device: torch.device,
) -> IntArray:
    """How many images of class i (row) are assigned to class j: i64 [c, c], over batches as for `accuracy`.

    Raises `DataError` for no batches.
    """
    network.eval()
    counts = torch.zeros(n_classes * n_classes, device=device, dtype=torch.int64)
    for inputs, labels in batches:
        place = labels.to(device) * n_classes + network(inputs.to(device)).argmax(1)
        counts += torch.bincount(place, minlength=n_classes * n_classes)
    matrix: IntArray = counts.view(n_classes, n_classes).cpu().numpy()
    require(int(matrix.sum()) > 0, "evaluation: the split has no images; choose one that has some")
    return matrix


def accuracy_of(counts: IntArray) -> float:
    """Top-1 accuracy in percent of a confusion matrix i64 [c, c]."""
    return 100.0 * int(counts.trace()) / int(counts.sum())
