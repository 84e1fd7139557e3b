"""Accuracy over images per class, one line per entry (MDC, Fig. 2)."""

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
    """One line per entry: the mean accuracy in percent over images per class, with standard deviations as error bars.

    Lines of entries with a `baseline` are dashed. The legend contains the average over sizes.
    """
    figure, [panel] = canvas(1, 1, 7.2, 4.6)
    for index, name in enumerate(distinct(rows, "entry")):
        *points, average = [row for row in rows if row["entry"] == name]
        panel.errorbar(
            [row["size"] for row in points],
            [row["accuracy"] for row in points],
            [row["std"] for row in points],
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
