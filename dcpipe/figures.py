"""Figures of studies: bars by selector (SCORE, Fig. 2), lines by coefficient (Fig. 4), as PNG bytes.

Both take the rows of `studies.summary`. Colours are Okabe and Ito's, which colour-blind people can tell apart; what
colour says is said by position, marker or text too. matplotlib is imported where it draws: reading a release does not
need it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from dcpipe.types import require

Row = Mapping[str, Any]
Figure = Any  # matplotlib's, which is not typed
Panel = Any
BLUE, VERMILION, GREY, BLACK = "#0072B2", "#D55E00", "#999999", "#000000"
BASELINE = "random"
PANELS_WIDE = 3


def need_matplotlib() -> None:
    """Raises `DataError` where matplotlib is not installed: better before hours of work than after."""
    require(find_spec("matplotlib") is not None, "figures need matplotlib, which is absent; install dcpipe[pipeline]")


def bars(rows: Sequence[Row], split: str, told: str) -> Figure:
    """One panel an ipc, in it one bar an entry: the mean accuracy in percent, its standard deviation as error bar, both
    as text, and the mean of `random` as a dashed line. Bars whose ends are near each other start above zero, and their
    axis says so. `told` stands under the title."""
    names, sizes = _distinct(rows, "selector"), _distinct(rows, "ipc")
    wide = min(len(sizes), PANELS_WIDE)
    high = -(-len(sizes) // wide)
    figure, panels = _canvas(high, wide, 1.8 + 3.4 * wide, 0.8 + high * (0.9 + 0.3 * len(names)))
    for panel, ipc in zip(panels, sizes, strict=False):
        start = _draw_bars(panel, names, [row for row in rows if row["ipc"] == ipc])
        panel.set_title(f"{ipc} image{'s' if ipc > 1 else ''} a class", fontsize=10)
        panel.set_xlabel(f"top-1 accuracy on {split} (%)" + (f", axis from {start}" if start else ""))
    for panel in panels[len(sizes) :]:
        panel.set_visible(False)
    _entitle(figure, f"Selectors: mean and standard deviation over {rows[0]['seeds']} seeds", told)
    return figure


def lines(rows: Sequence[Row], split: str, told: str) -> Figure:
    """One panel a coefficient, in it the mean accuracy in percent against its value with the standard deviation as
    error bars, and `random` as a band of one standard deviation either way. The axis of values is logarithmic; where
    zero is among them, it is linear below the smallest positive one."""
    [random] = [row for row in rows if row["selector"] == BASELINE]
    figure, panels = _canvas(1, 2, 8.2, 3.6)
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
    title = f"Coefficients of score at {random['ipc']} images a class"
    _entitle(figure, f"{title}: mean and standard deviation over {random['seeds']} seeds", told)
    return figure


def png(figure: Figure) -> bytes:
    """The figure's file, without the version of the library that drew it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _distinct(rows: Sequence[Row], key: str) -> list[Any]:
    """Values of a column in order of first appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def _canvas(high: int, wide: int, width: float, height: float) -> tuple[Figure, list[Panel]]:
    """A figure of `width` x `height` inches that no global state knows, and its panels, which share their y axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = list(figure.subplots(high, wide, sharey=True, squeeze=False).ravel())
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def _draw_bars(panel: Panel, names: Sequence[str], rows: Sequence[Row]) -> int:
    """Bars, the first name on top, with numbers at the right; where the axis starts."""
    places = [len(names) - names.index(row["selector"]) for row in rows]
    means, stds = [row["accuracy"] for row in rows], [row["std"] for row in rows]
    low = min(mean - std for mean, std in zip(means, stds, strict=True))
    high = max(mean + std for mean, std in zip(means, stds, strict=True))
    start = max(0, 5 * int((low - (high - low)) // 5))  # the lowest end stands at half the width or more
    panel.barh(places, means, height=0.7, color=[GREY if row["selector"] == BASELINE else BLUE for row in rows])
    panel.errorbar(means, places, xerr=stds, fmt="none", ecolor=BLACK, elinewidth=1, capsize=2)
    for row, place in zip(rows, places, strict=True):
        text = f"{row['accuracy']:.1f} ± {row['std']:.1f}"
        panel.text(1.02, place, text, transform=panel.get_yaxis_transform(), va="center", fontsize=9)
        if row["selector"] == BASELINE:
            panel.axvline(row["accuracy"], color=BLACK, linestyle="--", linewidth=0.8)
    panel.set_yticks(range(len(names), 0, -1), names)
    panel.set_xlim(start, high + 0.03 * (high - start) + 1e-9)  # not empty where all is 0
    return start


def _entitle(figure: Figure, title: str, told: str) -> None:
    """The title, and below it as many lines as `told` takes at this width."""
    columns = int(figure.get_figwidth() * 13)
    figure.suptitle(f"{textwrap.fill(title, columns)}\n{textwrap.fill(told, columns)}", fontsize=10)
