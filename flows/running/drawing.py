"""Figures that stages show. No stage depends on this code: a figure's colours are no reason to make images again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcpipe.reports import figures, pictures, tabular
from dcpipe.reports.figures.subsets import subset_figure
from dcpipe.types import ImageSet
from flows.running.runtime import Run

Rows = list[dict[str, int]]

PICTURE_SECONDS = 20.0  # between live pictures
# What is drawn of a table that a method hands over: its figure's title, and rows, conditions -> figure.
FIGURES: dict[str, tuple[str, Callable[[Rows, str], Any]]] = {"subsets": ("subsets over time", subset_figure)}


class LiveImages:
    """How far a synthesis is, with the terms of its loss and, where somebody watches, its images every
    `PICTURE_SECONDS`."""

    def __init__(self, run: Run) -> None:
        self.run, self.shown = run, time.monotonic()

    def report(self, done: int, total: int, note: str, images: Callable[[], ImageSet]) -> None:
        """For `synthesis.Progress`; `images` are made only to be shown."""
        self.run.reporter.progress("synthesis", done, total, note)
        if self.run.reporter.watched and time.monotonic() - self.shown > PICTURE_SECONDS:
            self.run.reporter.image("images under way", pictures.grid(images()))
            self.shown = time.monotonic()


class Records:
    """What a method has decided: the latest rows of each of its tables, their figures shown every `PICTURE_SECONDS`
    where somebody watches. `conditions` stand under the figures' titles."""

    def __init__(self, run: Run, conditions: str) -> None:
        self.run, self.conditions = run, conditions
        self.tables: dict[str, Rows] = {}
        self.shown = time.monotonic()

    def take(self, name: str, rows: Rows) -> None:
        """Keep the rows. Raises `DataError` where the figure cannot be drawn: before hours of work, not after."""
        if name not in self.tables:
            figures.need_matplotlib()
        self.tables[name] = rows
        if self.run.reporter.watched and time.monotonic() - self.shown > PICTURE_SECONDS:
            self._show(name)
            self.shown = time.monotonic()

    def save(self, folder: Path) -> None:
        """Each table as NAME.csv and NAME.png in the folder, and shown."""
        for name, rows in self.tables.items():
            tabular.write_csv(folder / f"{name}.csv", rows)
            (folder / f"{name}.png").write_bytes(self._show(name))

    def _show(self, name: str) -> bytes:
        title, draw = FIGURES[name]
        png = figures.png(draw(self.tables[name], self.conditions))
        self.run.reporter.image(title, png)
        return png


def show_sizes(run: Run, rows: Sequence[Mapping[str, Any]], conditions: str) -> None:
    """Accuracy by size of a set, rows as `tabular.size_rows` gives them, to whoever watches."""
    run.reporter.table("sizes", rows)
    if run.reporter.watched:
        run.reporter.image("accuracy by size", figures.png(figures.sizes(rows, "test", conditions)))
