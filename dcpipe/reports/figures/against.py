"""Accuracy against a number, with a line for each entry: what slimming leaves, or what is known after each task."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import CYCLE, GREY, MARKERS, Figure, Row, add_title, canvas, distinct


def against(rows: Sequence[Row], split: str, conditions: str, *, x: str, by: str, title: str, axis: str) -> Figure:
    """One line per value of the column `by`: the mean accuracy in percent over the column `x`, in a band of one
    standard deviation on either side. `axis` names the horizontal axis, and `conditions` is written under the title."""
    figure, [panel] = canvas(1, 1, 6.4, 4.4)
    for index, name in enumerate(distinct(rows, by)):
        points = sorted((row for row in rows if row[by] == name), key=lambda row: float(row[x]))
        places, means = [row[x] for row in points], [row["accuracy"] for row in points]
        colour, marker = CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]
        panel.plot(places, means, color=colour, marker=marker, markersize=4, linewidth=1.3, label=name)
        low, high = ([row["accuracy"] + sign * row["std"] for row in points] for sign in (-1, 1))
        panel.fill_between(places, low, high, color=colour, alpha=0.15)
    panel.set_xticks(distinct(rows, x))
    panel.set_xlabel(axis)
    panel.set_ylabel(f"top-1 accuracy on {split} (%)")
    panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False)
    add_title(figure, f"{title}: mean and standard deviation over {rows[0]['seeds']} seeds", conditions)
    return figure
