"""Reports of progress from inside a shard: `report` reaches whoever displays it, in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """How far a piece of work has come: its title, steps done, all steps, and a note for people.

    `values` are numbers of this step by name, such as the loss and the learning rate of an epoch, and `unit` is the
    word for a step that has them.
    """

    title: str
    done: int
    total: int
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""


Sink = Callable[[Step], Any]
_sinks: list[Sink] = []


def report(title: str, done: int, total: int, note: str = "") -> None:
    """Report the progress of a long shard; cheap enough to be called for every batch. Nobody may be listening."""
    send(Step(title, done, total, note))


def epoch(title: str, row: Mapping[str, float], epochs: int) -> None:
    """Report an epoch of a training of so many epochs, of which `row` has the number, from 0, the loss, the learning
    rate, and the accuracy in percent if there was a test. If it has a number of batches, the epoch is not done."""
    if "batch" in row:
        note = f"batch {int(row['batch']):,}, loss {row['loss']:.3g}"
        send(Step(title, int(row["epoch"]), epochs, note, unit="epoch"))
        return
    values = {name: value for name, value in row.items() if name in ("loss", "lr", "accuracy")}
    send(Step(title, int(row["epoch"]) + 1, epochs, values=values, unit="epoch"))


def send(step: Step) -> None:
    """Send a step to the listener that came last."""
    if _sinks:
        _sinks[-1](step)


@contextmanager
def reporting_to(sink: Sink) -> Iterator[None]:
    """Send the reports of this process, of all its threads, to `sink`."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)
