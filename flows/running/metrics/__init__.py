"""Losses, accuracies and learning rates of every epoch, written for a program that draws curves: `DCPIPE_METRICS`.

| value | written | looked at with |
|---|---|---|
| not set | nothing | |
| `tensorboard` | event files | `tensorboard --logdir .dcpipe/metrics` |
| `dvclive` | tables of DVCLive | `dvc plots show`, or VS Code's extension of DVC |

Each training of a teacher or a student has a folder below `.dcpipe/metrics/NAME` of the workspace, whose parent is
named for the time and the stage. Artifacts are the same with and without. To add a writer, write a file with a class
like `Writer`, and add a line to `WRITERS`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, cast

from dcpipe.config.values import import_name
from dcpipe.shards.progress import Step
from dcpipe.types import require

VARIABLE = "DCPIPE_METRICS"
FOLDER = Path(".dcpipe/metrics")
WRITERS = {  # by name, which is also that of the package and of the extra
    "tensorboard": "flows.running.metrics.tensorboard:TensorBoard",
    "dvclive": "flows.running.metrics.dvclive:DVCLive",
}


class Writer(Protocol):
    """Writes the numbers of one training into a new folder."""

    def __init__(self, folder: Path) -> None: ...

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step by name."""

    def close(self) -> None:
        """Write what is not written yet."""


class Metrics:
    """Gives each training of a stage a writer of the chosen kind, or none of them."""

    def __init__(self, writer: type[Writer] | None = None, root: Path = FOLDER) -> None:
        self.writer, self.root = writer, root
        self.open: dict[str, Writer] = {}
        self.ended: list[str] = []
        self.lock = Lock()

    def step(self, step: Step) -> None:
        """Write the values of a step, if it has some. Trainings may run side by side."""
        if self.writer is None or not step.values:
            return
        with self.lock:
            if step.title not in self.open:
                while self.ended:  # not sooner: the accuracy of a teacher comes after its last epoch
                    self.open.pop(self.ended.pop()).close()
                folder = self.root / _file_name(step.title)
                folder.mkdir(parents=True, exist_ok=True)
                self.open[step.title] = self.writer(folder)
            self.open[step.title].write(step.done, step.values)
            if step.done >= step.total and step.title not in self.ended:
                self.ended.append(step.title)

    def close(self) -> None:
        """Close what is still open."""
        with self.lock:
            self.ended.clear()
            while self.open:
                self.open.popitem()[1].close()


def chosen(stage: str) -> Metrics:
    """What `DCPIPE_METRICS` asks for, for a run of the stage. Raises `DataError` for a writer that is unknown or not
    installed."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return Metrics()
    require(name in WRITERS, f"{VARIABLE} is {name[:80]!r}; use one of {', '.join(WRITERS)}, or unset it")
    require(find_spec(name) is not None, f"{VARIABLE} is {name}, which is not installed; install dcpipe[{name}]")
    root = FOLDER / name / f"{time.strftime('%Y%m%d-%H%M%S')}-{_file_name(stage)}"
    return Metrics(cast("type[Writer]", _imported(name)), root)


def _imported(name: str) -> Any:
    return import_name(WRITERS[name])


def _file_name(title: str) -> str:
    """The words of a title, joined by dashes."""
    return "-".join("".join(sign if sign.isalnum() or sign == "." else " " for sign in title).split())
