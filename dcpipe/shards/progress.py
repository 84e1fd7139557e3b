"""Reports of progress from inside a shard: `report` reaches whoever displays it, in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Title, steps done, all steps, and a note, for example the loss.
Sink = Callable[[str, int, int, str], Any]
_sinks: list[Sink] = []


def report(title: str, done: int, total: int, note: str = "") -> None:
    """Report the progress of a long shard; cheap enough to be called for every batch. Nobody may be listening."""
    if _sinks:
        _sinks[-1](title, done, total, note)


@contextmanager
def reporting_to(sink: Sink) -> Iterator[None]:
    """Send the reports of this process, of all its threads, to `sink`."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)
