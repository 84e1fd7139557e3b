"""Codecs at equal bytes: divergence and accuracy against the bytes of the file (SCORE, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dcpipe.reports.figures.base import (
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    MARKERS,
    Figure,
    Row,
    add_title,
    canvas,
    distinct,
    kilo,
)


def codecs(rows: Sequence[Row], temperature: float, split: str, conditions: str) -> Figure:
    """Two panels over the bytes of the file and per image, on a logarithmic axis with the ratio to fp16 at the top.

    The left panel shows the divergence at `temperature`, one line per codec. If students were trained, the right panel
    shows their mean accuracy in percent with the standard deviation; rows without a ratio (uncompressed, online, hard)
    are bands. The row of one mean label per image, which has no ratio but a divergence, is a star in both panels.
    """
    packs = [row for row in rows if row["ratio"] != "" and row["bytes"]]
    taught = any(row["accuracy"] != "" for row in rows)
    names = distinct(packs, "codec")
    fp16, ratios = packs[0]["fp16_bytes"], distinct(packs, "ratio")
    each = packs[0].get("bytes_per_image")  # which older tables lack
    images = packs[0]["bytes"] / each if each else 0.0
    figure, panels = canvas(1, 1 + taught, 5.2 + 5.2 * taught, 5.0, sharey=False)
    key = f"kl_t{temperature:g}"

    def times(size: Any) -> Any:
        return fp16 / np.maximum(size, 1e-9)

    for index, name in enumerate(names):
        points = [row for row in packs if row["codec"] == name]
        again = index >= len(CYCLE)  # when colours repeat, lines are dashed
        style = {"color": CYCLE[index % len(CYCLE)], "linestyle": "--" if again else "-", "markersize": 5}
        style["marker"] = MARKERS[index % len(MARKERS)]
        finite = [row for row in points if 0 < row[key] < float("inf")]
        if finite:
            panels[0].plot([row["bytes"] for row in finite], [row[key] for row in finite], label=name, **style)
        scored = [row for row in points if row["accuracy"] != ""]
        if scored:
            x, y, bars = zip(*((row["bytes"], row["accuracy"], row["std"]) for row in scored), strict=True)
            panels[1].errorbar(x, y, bars, label=name, capsize=3, linewidth=1.2, **style)
    for row in _points(rows, key):
        style = {"color": BLACK, "marker": "*", "markersize": 10, "linestyle": "none", "label": row["codec"]}
        panels[0].plot([row["bytes"]], [row[key]], **style)
        if row["accuracy"] != "":
            panels[1].errorbar([row["bytes"]], [row["accuracy"]], [row["std"]], capsize=3, **style)
    panels[0].set_yscale("log")
    panels[0].set_ylabel(f"KL(teacher, decoded) at T = {temperature:g}, times T²")
    if taught:
        for row, colour, line in zip(_bands(rows, key), (BLACK, BLUE, GREY), ("-", "--", ":"), strict=False):
            panels[1].axhline(row["accuracy"], color=colour, linestyle=line, linewidth=1, label=row["codec"])
            low, high = row["accuracy"] - row["std"], row["accuracy"] + row["std"]
            panels[1].axhspan(low, high, color=colour, alpha=0.08, linewidth=0)
        panels[1].set_ylabel(f"top-1 accuracy on {split} (%)")
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xlabel("bytes of the label file" + (", and per image" if images else ""))
        places = [fp16 / ratio for ratio in ratios]
        panel.set_xticks(places, [_sizes(place, images) for place in places], rotation=30)
        panel.set_xticks([], minor=True)
        panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=7.5, frameon=False, ncols=2)
        above = panel.secondary_xaxis("top", functions=(times, times))
        above.set_xlabel("times smaller than fp16", fontsize=9)
        above.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
        above.set_xticks([], minor=True)
        above.tick_params(labelsize=8)
    seeds = max(row["seeds"] for row in rows)
    add_title(
        figure,
        "Codecs at equal bytes" + (f": mean and standard deviation over {seeds} seeds" if taught else ""),
        conditions,
    )
    return figure


def _sizes(size: float, images: float) -> str:
    return kilo(size) + (f"\n{size / images:,.0f} B" if images else "")


def _bands(rows: Sequence[Row], key: str) -> list[Row]:
    return [row for row in rows if row["ratio"] == "" and row["accuracy"] != "" and row[key] == ""]


def _points(rows: Sequence[Row], key: str) -> list[Row]:
    return [row for row in rows if row["ratio"] == "" and row["bytes"] and row[key] != ""]
