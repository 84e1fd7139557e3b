"""Progress for the eyes: bars in a terminal, and in a pipe or a file a line every ten seconds and one at the end.

The lines are messages of the log, so the file of the run and Prefect's page have them too.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dcpipe import logs
from dcpipe.shards.progress import Step

LINE_SECONDS = 10.0  # between two lines
COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[note]}", markup=False),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)
FORMATS = {"loss": "{:.3g}", "accuracy": "{:.1f} %"}  # of the values that people want to see


@dataclass
class Work:
    """What is known of a piece of work under way: when it was first seen, and with how many steps done; whether it has
    moved, and whether a line told of it; and its bar."""

    since: float
    first: int
    moved: bool = False
    told: bool = False
    bar: TaskID | None = None

    def left(self, step: Step, now: float) -> float | None:
        """The seconds that are left, from the pace so far; None if there is none yet."""
        done = step.done - self.first
        return (now - self.since) / done * (step.total - step.done) if done > 0 else None


class Display:
    """Shows the progress of everything that a stage does at a time."""

    def __init__(self, log: logging.Logger) -> None:
        self.log, self.lock = log, Lock()
        self.last = time.monotonic()
        self.works: dict[str, Work] = {}
        self.bars: Progress | None = None
        console = Console(stderr=True)
        self.terminal = console if console.is_terminal else None

    def show(self, step: Step) -> None:
        """Show a step, unless something was shown just before; the last step of a training always."""
        with self.lock:
            now = time.monotonic()
            work = self.works.setdefault(step.title, Work(now, step.done))
            if step.done > 0 and not work.moved:
                work.first, work.moved = max(work.first, step.done - 1), True  # earlier steps may be of an earlier run
            ended = step.done >= step.total
            if ended:
                del self.works[step.title]
            self._draw(step, work, ended)
        if ended and (step.values or work.told):
            self.log.info("%s, in %s", line(step), duration(now - work.since))
        elif not ended and now - self.last > LINE_SECONDS:
            self.last, work.told = now, True
            left = work.left(step, now)
            self.log.info(
                "%s", line(step) + (f", {duration(left)} left" if left is not None else ""), extra=logs.UNDER_WAY
            )
        elif step.values:
            self.log.debug("%s", line(step))

    def close(self) -> None:
        """Remove the bars."""
        with self.lock:
            if self.bars is not None:
                self.bars.stop()
                self.bars = None
            self.works.clear()

    def _draw(self, step: Step, work: Work, ended: bool) -> None:
        """Draw the bar of a work in a terminal; a bar goes away with its last step."""
        if self.terminal is None or not logs.is_shown(logging.INFO):
            return
        if self.bars is None:
            self.bars = Progress(*COLUMNS, console=self.terminal, transient=True)
            self.bars.start()
        note, title = ", ".join(details(step)), f"{step.title}{': ' if step.unit else ''}{step.unit}"
        if ended:
            if work.bar is not None:
                self.bars.remove_task(work.bar)
        elif work.bar is None:
            work.bar = self.bars.add_task(title, total=step.total, completed=step.done, note=note)
        else:
            self.bars.update(work.bar, completed=step.done, note=note, description=title)


def line(step: Step) -> str:
    """A step in words: "teacher main: epoch 12/100, loss 0.53"."""
    place = f"{step.unit} {step.done}/{step.total}".strip()
    return f"{step.title}: {', '.join([place, *details(step)])}"


def details(step: Step) -> list[str]:
    """The note and the values of a step, for people."""
    values = [f"{name} {form.format(step.values[name])}" for name, form in FORMATS.items() if name in step.values]
    return [part for part in (*values, step.note) if part]


def duration(seconds: float) -> str:
    """Seconds in the largest unit that fits: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
