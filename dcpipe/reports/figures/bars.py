"""Bars by entry, such as selectors (SCORE, Fig. 2) or variants of a workspace."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import (
    BASELINE,
    BLACK,
    BLUE,
    GREY,
    PANELS_WIDE,
    Figure,
    Panel,
    Row,
    add_title,
    canvas,
    distinct,
)


def bars(rows: Sequence[Row], split: str, conditions: str, title: str = "Selectors", by: str = "selector") -> Figure:
    """One panel per ipc (and kind of labels, if the rows have the column `labels`) with one bar per entry, which is
    named by the column `by`.

    A bar shows the mean accuracy in percent with the standard deviation as error bar; both are also written as text,
    and so is the difference to a reference, if the rows have one. The mean of `random` is a dashed line. If the ends of
    the bars are close together, the axis starts above zero, and its label says so. `conditions` is written under the
    title.
    """
    names, sizes = distinct(rows, by), distinct(rows, "ipc")
    kinds = distinct(rows, "labels") if "labels" in rows[0] else [None]
    shown = [(ipc, kind) for kind in kinds for ipc in sizes]
    wide = min(len(sizes), PANELS_WIDE)
    high = -(-len(shown) // wide)
    against = next((row["against"] for row in rows if row.get("against")), None)
    width = 1.8 + (4.4 if against else 3.4) * wide
    figure, panels = canvas(high, wide, width, 0.8 + high * (0.9 + 0.3 * len(names)))
    for panel, (ipc, kind) in zip(panels, shown, strict=False):
        own = [row for row in rows if row["ipc"] == ipc and row.get("labels") == kind]
        start = _draw_bars(panel, names, own, by)
        which = f", {kind} labels" if kind else ""
        panel.set_title(f"{ipc} image{'s' if ipc > 1 else ''} per class{which}", fontsize=10)
        panel.set_xlabel(f"top-1 accuracy on {split} (%)" + (f", axis from {start}" if start else ""))
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    heading = f"{title}: mean and standard deviation over {rows[0]['seeds']} seeds"
    compared = f"; in brackets, difference to {against} with its 95 % interval" if against else ""
    add_title(figure, heading + compared, conditions)
    return figure


def _draw_bars(panel: Panel, names: Sequence[str], rows: Sequence[Row], by: str) -> int:
    """Draw the bars, with the first name at the top and numbers at the right. Returns where the axis starts."""
    places = [len(names) - names.index(row[by]) for row in rows]
    means, stds = [row["accuracy"] for row in rows], [row["std"] for row in rows]
    low = min(mean - std for mean, std in zip(means, stds, strict=True))
    high = max(mean + std for mean, std in zip(means, stds, strict=True))
    start = max(0, 5 * int((low - (high - low)) // 5))  # so that the lowest end is at half the width or more
    panel.barh(places, means, height=0.7, color=[GREY if row[by] == BASELINE else BLUE for row in rows])
    panel.errorbar(means, places, xerr=stds, fmt="none", ecolor=BLACK, elinewidth=1, capsize=2)
    for row, place in zip(rows, places, strict=True):
        text = f"{row['accuracy']:.1f} ± {row['std']:.1f}"
        if row.get("against"):
            text += f"  ({row['difference']:+.1f} ± {row['difference_ci']:.1f})"
        panel.text(1.02, place, text, transform=panel.get_yaxis_transform(), va="center", fontsize=9)
        if row[by] == BASELINE:
            panel.axvline(row["accuracy"], color=BLACK, linestyle="--", linewidth=0.8)
    panel.set_yticks(range(len(names), 0, -1), names)
    panel.set_xlim(start, high + 0.03 * (high - start) + 1e-9)  # a valid range even if all values are 0
    return start
