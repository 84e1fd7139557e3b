"""Accuracy against the coefficients of `score` (SCORE, Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcpipe.reports.figures.base import (
    BASELINE,
    BLUE,
    GREY,
    VERMILION,
    Figure,
    Row,
    add_title,
    canvas,
)


def lines(rows: Sequence[Row], split: str, conditions: str) -> Figure:
    """One panel per coefficient, with the mean accuracy in percent over its value.

    Error bars are standard deviations, and `random` is a band of one standard deviation on either side. The axis of the
    values is logarithmic; if zero is one of them, it is linear below the smallest positive value.
    """
    [random] = [row for row in rows if row["selector"] == BASELINE]
    figure, panels = canvas(1, 2, 8.2, 3.6)
    low, high = random["accuracy"] - random["std"], random["accuracy"] + random["std"]
    for panel, (name, other, colour, marker) in zip(
        panels, (("alpha", "beta", BLUE, "o"), ("beta", "alpha", VERMILION, "s")), strict=True
    ):
        points = [row for row in rows if row["swept"] == name]
        values = [row[name] for row in points]
        means, stds = [row["accuracy"] for row in points], [row["std"] for row in points]
        panel.axhspan(low, high, color=GREY, alpha=0.25, linewidth=0, label="random ± std")
        panel.axhline(random["accuracy"], color=GREY, linestyle="--", linewidth=1)
        panel.errorbar(values, means, stds, color=colour, marker=marker, markersize=5, capsize=3, label="score ± std")
        positive = [value for value in values if value > 0]
        if positive:
            scale: dict[str, Any] = {"value": "log"}
            if len(positive) < len(values):
                scale = {"value": "symlog", "linthresh": min(positive)}
            panel.set_xscale(**scale)
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.set_xticks([], minor=True)
        panel.set_xlabel(f"{name} ({other} = {points[0][other]:g})")
        panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel(f"top-1 accuracy on {split} (%)")
    title = f"Coefficients of score at {random['ipc']} images per class"
    add_title(figure, f"{title}: mean and standard deviation over {random['seeds']} seeds", conditions)
    return figure
