"""Accuracy against images per class, one line per entry (MDC, Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import (
    CYCLE,
    GREY,
    MARKERS,
    Figure,
    Row,
    add_title,
    canvas,
    distinct,
)


def sizes(rows: Sequence[Row], split: str, conditions: str) -> Figure:
    """One line an entry, dashed where its rows say which `baseline` it is: mean accuracy in percent against images per
    class, with the standard deviation as error bars. The legend says the average over sizes."""
    figure, [panel] = canvas(1, 1, 7.2, 4.6)
    for index, name in enumerate(distinct(rows, "entry")):
        *own, average = [row for row in rows if row["entry"] == name]
        panel.errorbar(
            [row["size"] for row in own],
            [row["accuracy"] for row in own],
            [row["std"] for row in own],
            color=CYCLE[index % len(CYCLE)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="--" if average.get("baseline") else "-",
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=f"{name}: {average['accuracy']:.1f} on average",
        )
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("images per class")
    panel.set_ylabel(f"top-1 accuracy on {split} (%)")
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False)
    add_title(figure, f"Sizes of one set: mean and standard deviation over {rows[0]['seeds']} seeds", conditions)
    return figure
