"""What `test_torchrun.py` and `test_processes.py` run in several processes: small trainings in float64, and failures.

`python -m ranks_of_tests FILE`; the file says which part to play.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import training
from dcpipe.training import ALONE, Batch, Group, Recipe, processes, torchrun
from dcpipe.types import DataError

CPU = torch.device("cpu")
EPOCHS = 4
SIZES = (7, 5, 8, 6, 7)  # of the batches of an epoch: shares of two processes differ where a size is odd
RECIPES = {
    "sgd": Recipe(EPOCHS, optimizer="sgd", lr=0.05, ema=0.9, schedule="alrs", decay_factor=0.5, precision="float32"),
    "adamw": Recipe(EPOCHS, lr=0.01, precision="float32"),
}


class StopError(Exception):
    """What a kill after some epochs looks like from inside; all processes have it at the same place."""


def network(kind: str) -> nn.Module:
    """A small network of convolutions: without batch norm, or with one of two and of one dimension."""
    torch.manual_seed(3)
    norms: list[nn.Module] = [nn.BatchNorm2d(6), nn.BatchNorm1d(5, momentum=None)] if kind == "norm" else []
    first, second = ([norm] for norm in norms) if norms else ([nn.GroupNorm(2, 6)], [])
    layers = [
        nn.Conv2d(3, 6, 3),
        *first,
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 5),
        *second,
        nn.Tanh(),
        nn.Linear(5, 4),
    ]
    return nn.Sequential(*layers).double()


def batches(epoch: int, group: Group, stop: int | None, device: torch.device) -> Iterable[Batch]:
    """The shares of one process of the batches of an epoch, whose values are a function of the epoch."""
    if epoch == stop:
        raise StopError
    generator = torch.Generator().manual_seed(epoch)
    for size in SIZES:
        inputs = torch.randn(size, 3, 6, 6, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 4, (size,), generator=generator)
        share = group.share(size)
        yield inputs[share].to(device), labels[share].to(device)


def fit(
    kind: str,
    recipe: str,
    group: Group = ALONE,
    *,
    sync: bool = False,
    checkpoint: Path | None = None,
    stop: int | None = None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Train, and return weights, buffers and the rows of the epochs."""
    trained, history = training.fit(
        network(kind),
        lambda epoch: batches(epoch, group, stop, device),
        F.cross_entropy,
        RECIPES[recipe],
        seed=1,
        device=device,
        checkpoint=checkpoint,
        group=group,
        sync_batchnorm=sync,
    )
    return {"state": trained.state_dict(), "history": history}


def train_all(path: Path, cases: dict[str, dict[str, Any]], kind: str = "cpu") -> None:
    """Train every case and save the results of each process."""
    results = {}
    with processes.joined(torch.device(kind)) as (group, device):
        assert device == CPU if kind == "cpu" else device.index == group.rank
        assert group.tell("über" if group.rank == 0 else "", device) == "über"
        assert group.agree([3, 4], device) and not group.agree([3, group.rank], device)
        for name, case in cases.items():
            checkpoint = path.with_name(case.pop("checkpoint")) if "checkpoint" in case else None
            try:
                results[name] = fit(**case, group=group, checkpoint=checkpoint, device=device)
            except StopError:
                results[name] = {}
        torch.save(results, path.with_name(f"results-{group.rank}.pt"))
    torchrun.report({"epoch": group.rank})
    sys.stdout.write("a library says something\n")


def fail(kind: str) -> None:
    """Process 1 fails while process 0 waits for it."""
    with processes.joined(CPU) as (group, _):
        group.mean(torch.ones(1))
        if group.rank == 1:
            if kind == "data":
                raise DataError("the images are upside down; turn them")
            os.kill(os.getpid(), 9)
        group.mean(torch.ones(1))


def main() -> None:
    """Play the part that the file names."""
    path = Path(sys.argv[1])
    with torchrun.failures_written(path.parent):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "fail" in content:
            fail(content["fail"])
        else:
            train_all(path, **content)


if __name__ == "__main__":
    main()
