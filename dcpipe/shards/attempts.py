"""Call a shard again after an error of a disk or a network. Other errors are final, because bad data stays bad."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
PAUSE_SECONDS = 1.0
_log = logging.getLogger(__name__)


def attempt(work: Callable[[Item], Result], item: Item, name: str, retries: int) -> Result:
    """`work(item)`, tried `retries` more times after an `OSError`. The error that is raised at last carries a note with
    the name of the task."""
    for left in range(retries, -1, -1):
        try:
            return work(item)
        except Exception as error:
            if left == 0 or not isinstance(error, OSError):
                note = f"in task {name}"
                if note not in getattr(error, "__notes__", ()):  # a worker has added it already
                    error.add_note(note)
                raise
            _log.warning("task %s: %s; trying again", name, error)
            time.sleep(PAUSE_SECONDS)
    raise AssertionError
