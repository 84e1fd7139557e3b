"""Shards for tests of workers. Workers are other processes, so the shards are functions of a module."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import torch

from dcpipe import logs
from dcpipe.shards import progress
from dcpipe.types import BudgetError, DataError


def square(item: int) -> int:
    return item * item


def state(item: int) -> tuple[int, str, str]:
    """Process, folder and threads."""
    return os.getpid(), str(Path.cwd()), f"{torch.get_num_threads()}"


def reporting(item: int) -> None:
    for done in range(1, item + 1):
        progress.report("counted", done, item, "loss 0.5")


def refused(item: int) -> None:
    raise DataError(f"row {item} is not an image; remove it")


def over_budget(item: int) -> None:
    raise BudgetError(f"{item} bytes are too few")


class OddError(Exception):
    """Cannot be pickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("odd")
        self.lock = threading.Lock()


def broken(item: int) -> None:
    raise OddError(1, 2)


def away(folder: str) -> int:
    """An error of a disk, twice; how many calls it took."""
    calls = sum(1 for _ in Path(folder).iterdir())
    (Path(folder) / f"call-{calls}").touch()
    if calls < 2:
        raise OSError(5, "Input/output error", "share/part")
    return calls + 1


def always_away(folder: str) -> None:
    (Path(folder) / f"call-{sum(1 for _ in Path(folder).iterdir())}").touch()
    raise OSError(5, "Input/output error", "share/part")


def die(seconds: float) -> None:
    """End the process as the kernel ends one that takes too much memory."""
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        die(0)
    return mark


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hang_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(600)
    return mark


def talking(item: int) -> int:
    progress.epoch("talking", {"epoch": 0, "loss": 0.25}, item)
    logs.logger("talking").warning("%d %% of it is odd", item)
    logs.logger("talking").debug("a detail")
    return item
