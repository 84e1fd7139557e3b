"""Accuracy over epochs of training (SCORE, supplement, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import (
    CYCLE,
    GREY,
    MARKERS,
    Figure,
    Row,
    add_title,
    by_set,
    canvas,
    columns_of,
    distinct,
)


def curves(rows: Sequence[Row], split: str, conditions: str, by: str = "network") -> Figure:
    """One panel per ipc (for rows with a variant, per variant and ipc) with one line per value of the column `by`: the
    mean accuracy in percent over epochs, in a band of one standard deviation on either side."""
    names, groups = distinct(rows, by), by_set(rows)
    wide = columns_of(len(groups), len(distinct(rows, "ipc")))
    high = -(-len(groups) // wide)
    figure, panels = canvas(high, wide, 1.0 + 4.2 * wide, 0.8 + 3.4 * high)
    for panel, (title, own) in zip(panels, groups.items(), strict=False):
        for index, name in enumerate(names):
            points = [row for row in own if row[by] == name]
            if not points:
                continue
            epochs, means = [row["epoch"] for row in points], [row["accuracy"] for row in points]
            colour, marker = CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]
            style = {"linestyle": "--" if index >= len(CYCLE) else "-"}  # when colours repeat
            panel.plot(epochs, means, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name, **style)
            low = [row["accuracy"] - row["std"] for row in points]
            panel.fill_between(epochs, low, [row["accuracy"] + row["std"] for row in points], color=colour, alpha=0.15)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("epochs of training")
        panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=7.5, frameon=False, ncols=1 + (len(names) > len(CYCLE)))
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    panels[0].set_ylabel(f"top-1 accuracy on {split} (%)")
    add_title(figure, f"Learning curves: mean and standard deviation over {rows[0]['seeds']} seeds", conditions)
    return figure
