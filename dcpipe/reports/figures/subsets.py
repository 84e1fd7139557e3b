"""A figure of how subsets were chosen (MDC, Fig. 5): the chosen subset and its frozen part over outer loops.

Takes the rows that `synthesis.Progress.record` is handed under the name "subsets"; colours and their
meaning are those of `figures.base`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcpipe.reports.figures.base import BLUE, GREY, VERMILION, Figure, Row, add_title, canvas
from dcpipe.types import FloatArray


def subset_figure(rows: Sequence[Row], conditions: str) -> Figure:
    """Images per class against outer loops, from 0: the chosen subset as a step line with a dot at each change, the
    frozen part shaded below it. Where classes choose by themselves, each has a faint line; line and shade are means.

    `rows`: `loop`, `class` (-1: all), `subset`, `frozen`, sorted by loop, in each loop all classes.
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
    panel.set_ylabel("images a class")  # of a file in the artifact: other words are another digest
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False, ncols=2, loc="upper left")
    add_title(figure, "Subsets chosen and frozen", conditions)
    return figure


def changes(chosen: FloatArray, frozen: FloatArray) -> list[int]:
    """Places along the first axis at which anything is other than before, the first included: the last row may only say
    that a state still held."""
    both = np.concatenate([chosen, frozen], axis=1)
    return [0, *(np.flatnonzero((both[1:] != both[:-1]).any(axis=1)) + 1).tolist()]


def _by_class(rows: Sequence[Row], name: str, loops: int) -> FloatArray:
    """A column of the rows, f64 [loops, classes]."""
    return np.array([row[name] for row in rows], dtype=np.float64).reshape(loops, -1)
