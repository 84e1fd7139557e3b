"""Figures that stages display. DVC does not track this code: a new colour is no reason to build images again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcpipe.reports import figures, pictures, tabular
from dcpipe.reports.figures.subsets import distance_figure, subset_figure
from dcpipe.types import ImageSet
from flows.running.runtime import Run

Rows = Sequence[Mapping[str, Any]]

PICTURE_SECONDS = 20.0  # between live pictures
# By name of a table that a method records: the title of its figure, and the function (rows, conditions) -> figure.
FIGURES: dict[str, tuple[str, Callable[[Rows, str], Any]]] = {
    "subsets": ("subsets over time", subset_figure),
    "distances": ("distances of subsets", distance_figure),
}


class LiveImages:
    """Reports the progress of a synthesis with the terms of its loss and, if pictures are displayed, its images every
    `PICTURE_SECONDS`."""

    def __init__(self, run: Run) -> None:
        self.run, self.shown = run, time.monotonic()

    def report(self, done: int, total: int, note: str, images: Callable[[], ImageSet]) -> None:
        """The callback for `synthesis.Progress`; `images` is called only if they are displayed."""
        self.run.reporter.progress("synthesis", done, total, note)
        if self.run.reporter.watched and time.monotonic() - self.shown > PICTURE_SECONDS:
            self.run.reporter.image("images under way", pictures.grid(images()))
            self.shown = time.monotonic()


class Records:
    """Collects the decisions of a method: the latest rows of each table that it records.

    If pictures are displayed, a figure is drawn every `PICTURE_SECONDS`, with `conditions` under its title.
    """

    def __init__(self, run: Run, conditions: str) -> None:
        self.run, self.conditions = run, conditions
        self.tables: dict[str, Rows] = {}
        self.shown = time.monotonic()

    def update(self, name: str, rows: Rows) -> None:
        """Replace the rows of a table. Raises `DataError` if matplotlib is missing, before hours of work, not after."""
        if name in FIGURES and name not in self.tables:
            figures.need_matplotlib()
        self.tables[name] = rows
        if name in FIGURES and self.run.reporter.watched and time.monotonic() - self.shown > PICTURE_SECONDS:
            self._show(name)
            self.shown = time.monotonic()

    def save(self, folder: Path) -> None:
        """Write each table to NAME.csv in the folder; if it has a figure, also to NAME.png, and display this."""
        for name, rows in self.tables.items():
            tabular.write_csv(folder / f"{name}.csv", rows)
            if name in FIGURES:
                (folder / f"{name}.png").write_bytes(self._show(name))

    def _show(self, name: str) -> bytes:
        title, draw = FIGURES[name]
        png = figures.png(draw(self.tables[name], self.conditions))
        self.run.reporter.image(title, png)
        return png


def show_sizes(run: Run, rows: Sequence[Mapping[str, Any]], conditions: str) -> None:
    """Display accuracy by size of a set; `rows` are those of `tabular.size_rows`."""
    run.reporter.table("sizes", rows)
    if run.reporter.watched:
        run.reporter.image("accuracy by size", figures.png(figures.sizes(rows, "test", conditions)))
