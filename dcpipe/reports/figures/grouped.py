"""Bars by network, in groups of one per number of images per class (SCORE, Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import BLACK, CYCLE, GREY, Figure, Row, add_title, canvas, distinct

_GROUP = 0.84  # width of a group; networks are 1 apart


def grouped(rows: Sequence[Row], split: str, conditions: str) -> Figure:
    """One group of bars per network, with one bar per ipc: the mean accuracy in percent with the standard deviation as
    error bar. The mean is also written above the bar. `conditions` is written under the title."""
    names, sizes = distinct(rows, "network"), distinct(rows, "ipc")
    width = _GROUP / len(sizes)
    figure, [panel] = canvas(1, 1, 2.0 + len(names) * (0.5 + 0.42 * len(sizes)), 4.4)
    for index, ipc in enumerate(sizes):
        bars = {row["network"]: row for row in rows if row["ipc"] == ipc}
        places = [names.index(name) + (index + 0.5) * width - _GROUP / 2 for name in bars]
        means, stds = [row["accuracy"] for row in bars.values()], [row["std"] for row in bars.values()]
        label = f"{ipc} image{'s' if ipc > 1 else ''} per class"
        panel.bar(places, means, 0.92 * width, color=CYCLE[index % len(CYCLE)], label=label)
        panel.errorbar(places, means, stds, fmt="none", ecolor=BLACK, elinewidth=1, capsize=2)
        for place, mean, std in zip(places, means, stds, strict=True):
            panel.annotate(
                f"{mean:.1f}", (place, mean + std), (0, 2), textcoords="offset points", ha="center", fontsize=7.5
            )
    panel.set_xticks(range(len(names)), names, rotation=20, ha="right")
    panel.margins(y=0.1)
    panel.set_ylim(bottom=0)
    panel.set_ylabel(f"top-1 accuracy on {split} (%)")
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.legend(fontsize=8, frameon=False, ncols=len(sizes))
    add_title(figure, f"Networks: mean and standard deviation over {rows[0]['seeds']} seeds", conditions)
    return figure
