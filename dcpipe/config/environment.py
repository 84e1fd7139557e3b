"""Numbers in environment variables."""

from __future__ import annotations

import os

from dcpipe.types import require

MOST_PROCESSES = 1024
_MOST_MINUTES = 10**6


def minutes(variable: str, purpose: str) -> float | None:
    """The minutes in a variable; None if it is not set. `purpose` says what they are for, as in "that a process waits".

    Raises `DataError` for anything but a positive number.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    require(0 < found < _MOST_MINUTES, f"{variable} is {text[:80]!r}; give the minutes {purpose}, or unset it")
    return found


def processes(text: str) -> int | None:
    """The number of processes in a text, 1 to 1,024; None if it is anything else."""
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return found if 1 <= found <= MOST_PROCESSES else None
