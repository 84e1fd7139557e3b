"""`DCPIPE_WORKERS`: which workers run the shards of a stage.

| value | workers |
|---|---|
| not set | threads of the stage's own process |
| `8` | 8 processes of this machine; where there are GPUs, each sees one of them |
| `auto` | one process per GPU, or per two CPU cores where there is no GPU |
| `tcp://host:8786` | those of a Dask scheduler that is already running (`tls://` too) |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from dcpipe.config import environment
from dcpipe.types import DataError

VARIABLE = "DCPIPE_WORKERS"
LIMIT = "DCPIPE_TASK_MINUTES"
SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")


@dataclass(frozen=True)
class Workers:
    """So many processes of this machine, or the address of a scheduler. `minutes`: a task that takes longer hangs and
    is tried elsewhere; None if no task is too long."""

    count: int = 0
    address: str = ""
    minutes: float | None = None


def wanted() -> Workers | None:
    """What `DCPIPE_WORKERS` asks for; None for threads of this process. Raises `DataError` for a value that is neither
    a number nor an address."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    minutes = environment.minutes(LIMIT, "after which a task is tried elsewhere")
    if re.fullmatch(rf"({'|'.join(SCHEMES)})://[^\s/]+:\d{{1,5}}", text):
        return Workers(address=text, minutes=minutes)
    count = _one_per_device() if text == "auto" else environment.processes(text)
    if count is None:
        raise DataError(
            f"{VARIABLE} is {text[:80]!r}; give a number of workers from 1 to {environment.MOST_PROCESSES:,}, auto, or "
            "the address of a Dask scheduler such as tcp://127.0.0.1:8786"
        )
    return Workers(count=count, minutes=minutes)


def _one_per_device() -> int:
    import torch  # takes seconds

    return torch.cuda.device_count() or max(1, (os.cpu_count() or 1) // 2)
