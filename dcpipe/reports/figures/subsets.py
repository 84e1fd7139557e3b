"""Figures of how subsets were chosen (MDC, Fig. 5 and Table 7): the chosen subset and its frozen part over outer loops,
and the distances by which it was chosen.

Their rows are those that methods record with `synthesis.Progress.record` under the names "subsets" and "distances".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcpipe.reports.figures.base import BLUE, GREY, VERMILION, Figure, Row, add_title, canvas
from dcpipe.types import FloatArray


def subset_figure(rows: Sequence[Row], conditions: str) -> Figure:
    """Images per class over outer loops, from 0: the chosen subset is a step line with a dot at each change, and the
    frozen part is shaded below it. If each class chooses its own subset, it has a faint line, and line and shade are
    means over classes.

    `rows` have `loop`, `class` (-1: all), `subset` and `frozen`. They are sorted by loop, and each loop has all
    classes.
    """
    loops = np.array(list(dict.fromkeys(row["loop"] for row in rows)))
    chosen, frozen = (_by_class(rows, name, len(loops)) for name in ("subset", "frozen"))
    several = chosen.shape[1] > 1
    figure, [panel] = canvas(1, 1, 7.2, 3.6)
    if several:
        panel.step(loops, chosen, where="post", color=GREY, alpha=0.4, linewidth=0.7)
    mean = "mean " if several else ""
    panel.fill_between(
        loops, frozen.mean(1), step="post", color=VERMILION, alpha=0.25, linewidth=0, label=f"{mean}frozen part"
    )
    style = {"color": BLUE, "marker": "o", "markersize": 4, "markevery": changes(chosen, frozen)}
    panel.step(loops, chosen.mean(1), where="post", label=f"{mean}subset", **style)
    panel.set_ylim(0, 1.2 * max(1.0, float(chosen.max())))
    for axis in (panel.xaxis, panel.yaxis):
        axis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("outer loop")
    panel.set_ylabel("images a class")  # the figure is part of an artifact: other words would change its digest
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False, ncols=2, loc="upper left")
    add_title(figure, "Subsets chosen and frozen", conditions)
    return figure


def distance_figure(rows: Sequence[Row], conditions: str) -> Figure:
    """The distance of every candidate over the outer loops that measured, from 0: a line per size, the lighter the
    larger the size. If each class chooses its own subset, distances are means over classes.

    `rows` have `loop`, `class` (-1: all), `size` and `distance`; they are sorted by loop, class and size.
    """
    loops, sizes = (np.array(list(dict.fromkeys(row[name] for row in rows))) for name in ("loop", "size"))
    found = _by_class(rows, "distance", len(loops)).reshape(len(loops), -1, len(sizes)).mean(1)
    figure, [panel] = canvas(1, 1, 7.2, 3.6)
    for size, distances, alpha in zip(sizes.tolist(), found.T, np.linspace(1, 0.3, len(sizes)).tolist(), strict=True):
        panel.plot(loops, distances, color=BLUE, alpha=alpha, marker="o", markersize=3, label=f"{size}")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("outer loop")
    panel.set_ylabel("distance from real images")
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(title="images a class", fontsize=8, frameon=False, ncols=5)
    add_title(figure, "Distances of subsets", conditions)
    return figure


def changes(chosen: FloatArray, frozen: FloatArray) -> list[int]:
    """The places along the first axis at which a value differs from the row before, and the first place. The last row
    may be a repetition, which only shows that the state did not change."""
    both = np.concatenate([chosen, frozen], axis=1)
    return [0, *(np.flatnonzero((both[1:] != both[:-1]).any(axis=1)) + 1).tolist()]


def _by_class(rows: Sequence[Row], name: str, loops: int) -> FloatArray:
    """A column of the rows as f64 [loops, classes]."""
    return np.array([row[name] for row in rows], dtype=np.float64).reshape(loops, -1)
