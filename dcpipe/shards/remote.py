"""What happens inside a worker: it becomes like the process that sends the shard, calls it, and returns what came."""

from __future__ import annotations

import logging
import os
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dcpipe import logs
from dcpipe.shards import progress
from dcpipe.shards.attempts import attempt
from dcpipe.shards.progress import Sink, Step
from dcpipe.store.hashing import source_sha256
from dcpipe.training.memory import keep_freed_memory
from dcpipe.types import DataError, require

PACKAGES = ("numpy", "pillow", "pyarrow", "torch", "torchvision", "zarr")
REPORT_SECONDS = 1.0
Event = tuple[str, dict[str, Any]]  # "step" or "message", and its fields as plain values


@dataclass(frozen=True)
class Setting:
    """What a worker must have in common with the process that sends shards: the folder of the workspace, the versions
    of the code and of packages, the number of threads of PyTorch (sums over several threads are rounded differently),
    and the type of device."""

    workspace: str
    versions: tuple[tuple[str, str], ...]
    threads: int
    device: str


@dataclass(frozen=True)
class Call:
    """A shard, its name and the number of times that it is tried again after an `OSError`."""

    work: Callable[[Any], Any]
    item: Any
    name: str
    retries: int
    setting: Setting


def setting_of(device: torch.device) -> Setting:
    """The setting of this process."""
    return Setting(str(Path.cwd()), versions(), torch.get_num_threads(), device.type)


@lru_cache(maxsize=1)
def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of everything that must be equal everywhere; for dcpipe, a digest of its source."""
    source = source_sha256(Path(__file__).resolve().parents[1])
    python = ".".join(platform.python_version_tuple()[:2])
    return (
        ("Python", python),
        *((name, version(name)) for name in PACKAGES),
        ("dcpipe's source", source[:12]),
    )


def run(call: Call, where: str, send: Callable[[Event], Any]) -> tuple[bool, Any]:
    """Call a shard on the worker `where`: (True, its result), or (False, the error). Errors are returned instead of
    raised, so that Dask does not log a traceback of each. Progress and messages are given to `send`, for `tell`."""
    try:
        prepare(call.setting, where)
        with progress.reporting_to(Seldom(lambda step: send(("step", asdict(step))))), logs.added(Sent(send, where)):
            return True, attempt(call.work, call.item, call.name, call.retries)
    except Exception as error:
        return False, _portable(error)


def tell(event: Event) -> None:
    """In the process that sent a shard: display what a worker has sent."""
    kind, fields = event
    if kind == "step":
        progress.send(Step(**fields))
    else:
        logging.getLogger(fields["logger"]).log(fields["level"], "%s", fields["message"])


class Sent(logging.Handler):
    """Sends the messages of a shard, from level `info` on, to the process that sent it."""

    def __init__(self, send: Callable[[Event], Any], where: str) -> None:
        super().__init__(logging.INFO)
        self.send, self.where = send, where

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        message = f"worker {self.where}: {self.format(record)}"
        self.send(("message", {"logger": record.name, "level": record.levelno, "message": message}))


@lru_cache(maxsize=1)  # only what was set last is still so
def prepare(setting: Setting, where: str) -> None:
    """Make this process compute as the one that sent the setting, in its folder, because sources may have relative
    paths. Raises `DataError` where it cannot."""
    for (name, wanted), (_, found) in zip(setting.versions, versions(), strict=True):
        require(
            wanted == found,
            f"worker {where} has {name} {found}, but this process has {wanted}; install the same versions everywhere "
            "and start the workers again",
        )
    require(
        Path(setting.workspace).is_dir(),
        f"worker {where} does not see {setting.workspace}; workers on other machines need the workspace and "
        "DCPIPE_SCRATCH on a file system that they share",
    )
    require(
        setting.device != "cuda" or torch.cuda.is_available(),
        f"worker {where} has no CUDA device; start workers where there are GPUs, or set DCPIPE_DEVICE=cpu",
    )
    os.chdir(setting.workspace)
    torch.set_num_threads(setting.threads)
    keep_freed_memory(torch.device(setting.device))


class Seldom:
    """A sink that passes on the reports of a title at most once per `REPORT_SECONDS`, but the last one and those with
    values always."""

    def __init__(self, sink: Sink) -> None:
        self.sink, self.last = sink, dict[str, float]()

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.values or step.done >= step.total or now - self.last.get(step.title, 0.0) >= REPORT_SECONDS:
            self.last[step.title] = now
            self.sink(step)


def device_name(setting: Setting) -> str:
    """The device of a worker, for people."""
    return torch.cuda.get_device_name(0) if setting.device == "cuda" else f"{platform.node()}, CPU"


def _portable(error: Exception) -> Exception:
    """The error in a form that every process can read: those that a command turns into a sentence as they are."""
    if isinstance(error, DataError | OSError | MemoryError):
        return error
    lines = "".join(traceback.format_exception(error))
    return RuntimeError(f"{type(error).__name__}: {error}\n{lines}")
