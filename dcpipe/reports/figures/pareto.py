"""Accuracy over bytes: which set is worth its size."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import CYCLE, GREY, MARKERS, Figure, Row, add_title, canvas, distinct, kilo


def pareto(rows: Sequence[Row], split: str, conditions: str, by: str = "set") -> Figure:
    """One point per row: mean accuracy in percent, with the standard deviation as error bar where `std` is a number,
    over `total_bytes` on a logarithmic axis. Rows of one `by` share colour and marker. A line joins the rows that no
    other row beats at the same or fewer bytes."""
    figure, [panel] = canvas(1, 1, 8.4, 4.8)
    for index, name in enumerate(distinct(rows, by)):
        points = [row for row in rows if row[by] == name]
        panel.errorbar(
            [max(1, row["total_bytes"]) for row in points],
            [row["accuracy"] for row in points],
            [row["std"] or 0.0 for row in points],
            color=CYCLE[index % len(CYCLE)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="none",
            markersize=7,
            capsize=3,
            label=name,
        )
    best = frontier(rows)
    panel.plot(
        [max(1, row["total_bytes"]) for row in best],
        [row["accuracy"] for row in best],
        color=GREY,
        linewidth=1,
        linestyle=":",
        zorder=0,
        label="not beaten at fewer bytes",
    )
    from matplotlib.ticker import LogLocator

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(lambda size, _: kilo(size))
    panel.minorticks_off()
    panel.set_xlabel("images, labels and teacher on disk")
    panel.set_ylabel(f"top-1 accuracy on {split} (%)")
    panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    add_title(figure, "Accuracy by bytes", conditions)
    return figure


def frontier(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other one beats at the same or fewer bytes, by ascending bytes."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["total_bytes"], -row["accuracy"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best
