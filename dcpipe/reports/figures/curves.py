"""Accuracy over epochs of training (SCORE, supplement, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import (
    CYCLE,
    GREY,
    MARKERS,
    PANELS_WIDE,
    Figure,
    Row,
    add_title,
    canvas,
    distinct,
)


def curves(rows: Sequence[Row], split: str, conditions: str) -> Figure:
    """One panel per ipc with one line per network: the mean accuracy in percent over epochs, in a band of one standard
    deviation on either side."""
    names, sizes = distinct(rows, "network"), distinct(rows, "ipc")
    wide = min(len(sizes), PANELS_WIDE)
    high = -(-len(sizes) // wide)
    figure, panels = canvas(high, wide, 1.0 + 4.2 * wide, 0.8 + 3.4 * high)
    for panel, ipc in zip(panels, sizes, strict=False):
        for index, name in enumerate(names):
            points = [row for row in rows if (row["network"], row["ipc"]) == (name, ipc)]
            epochs, means = [row["epoch"] for row in points], [row["accuracy"] for row in points]
            colour, marker = CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]
            panel.plot(epochs, means, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name)
            low = [row["accuracy"] - row["std"] for row in points]
            panel.fill_between(epochs, low, [row["accuracy"] + row["std"] for row in points], color=colour, alpha=0.15)
        panel.set_title(f"{ipc} image{'s' if ipc > 1 else ''} per class", fontsize=10)
        panel.set_xlabel("epochs of training")
        panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=7.5, frameon=False)
    for panel in panels[len(sizes) :]:
        panel.set_visible(False)
    panels[0].set_ylabel(f"top-1 accuracy on {split} (%)")
    add_title(figure, f"Learning curves: mean and standard deviation over {rows[0]['seeds']} seeds", conditions)
    return figure
