"""How much accuracy is lost as labels are compressed, by selector or by codec (SCORE, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcpipe.reports.figures.base import (
    BLACK,
    CYCLE,
    GREY,
    MARKERS,
    Figure,
    Panel,
    Row,
    add_title,
    by_set,
    canvas,
    columns_of,
    distinct,
    kilo,
    per_class,
)


def drops(rows: Sequence[Row], split: str, conditions: str) -> Figure:
    """One panel per variant and ipc with one line per codec or, for rows with a selector, one panel with one line per
    selector: the drop of the mean accuracy, in points, compared with uncompressed labels of the same set.

    The horizontal axis is the ratio of labels in fp16 to the file, logarithmic, with the bytes of the budget at the
    top. Error bars are the standard deviation of the drop. Points of one ratio are shifted slightly, so that their
    error bars can be distinguished; a ratio that was not reached has no point. Stars are the mean label, which is a row
    without a ratio, at the ratio of its file. The accuracy with uncompressed labels is in the legend, with R_C, or
    above the panel.
    """
    by = "selector" if "selector" in rows[0] else "codec"
    panels_of = by_set(rows)
    wide = columns_of(len(panels_of), len(distinct(rows, "ipc")))
    high = -(-len(panels_of) // wide)
    size = (8.2, 4.6) if len(panels_of) == 1 else (1.0 + 4.4 * wide, 0.8 + 4.0 * high)
    figure, panels = canvas(high, wide, *size)
    for panel, (name, own) in zip(panels, panels_of.items(), strict=False):
        _draw(panel, own, by)
        if by == "codec":
            [whole] = [row for row in own if _is_whole(row)]
            panel.set_title(f"{name}: {whole['accuracy']:.1f}", fontsize=10)
    for panel in panels[len(panels_of) :]:
        panel.set_visible(False)
    for panel in panels[::wide]:
        panel.set_ylabel(f"drop of top-1 accuracy on {split} (points)")
    panels[0].invert_yaxis()  # so that a drop points downwards; panels share the axis
    seeds, ipc = max(row["seeds"] for row in rows), distinct(rows, "ipc")
    place = f" at {per_class(ipc[0])}" if len(ipc) == 1 else ""
    add_title(
        figure, f"Compressed labels{place}: mean and standard deviation of the drop over {seeds} seeds", conditions
    )
    return figure


def _draw(panel: Panel, rows: Sequence[Row], by: str) -> None:
    """The lines and stars of one panel."""
    compressed = [row for row in rows if row["ratio"] != ""]
    names, ratios = distinct(compressed, by), distinct([row for row in compressed if not row["note"]], "ratio")
    wholes = {row[by]: row for row in rows if not row["note"] and _is_whole(row)}
    means = [row for row in rows if row["ratio"] == "" and not row["note"] and not _is_whole(row)]
    fp16 = rows[0]["fp16_label_bytes"]
    colours = {name: CYCLE[index % len(CYCLE)] for index, name in enumerate(names)}
    panel.axhline(0, color=BLACK, linewidth=0.8, label="uncompressed")
    for index, name in enumerate(names):
        points = [row for row in compressed if row[by] == name and not row["note"]]
        shift = 1.02 ** (index - (len(names) - 1) / 2)
        panel.errorbar(
            [row["ratio"] * shift for row in points],
            [row["drop"] for row in points],
            [row["drop_std"] for row in points],
            color=colours[name],
            linestyle="--" if index >= len(CYCLE) else "-",  # when colours repeat
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=f"{name}: {_whole(wholes[name])}" if by == "selector" else name,
        )
    star = {"marker": "*", "markersize": 9, "linestyle": "none"}
    for row in means:
        place, drop, std = fp16 / row["label_bytes"], row["drop"], row["drop_std"]
        panel.errorbar([place], [drop], [std], color=colours.get(row[by], BLACK), capsize=3, **star)
    if means:
        panel.plot([], [], color=BLACK, label=f"{means[0]['codec']}, {kilo(means[0]['label_bytes'])}", **star)
    panel.set_xscale("log")
    panel.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("times smaller than fp16")
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False)
    above = panel.secondary_xaxis("top")
    above.set_xlabel("bytes of the label file, at most", fontsize=9)
    above.set_xticks(ratios, [kilo(fp16 / ratio) for ratio in ratios])
    above.set_xticks([], minor=True)
    above.tick_params(labelsize=8)


def _is_whole(row: Row) -> bool:
    return bool(row["codec"] == "uncompressed")


def _whole(row: Row) -> str:
    """The accuracy with uncompressed labels and, if it is known, R_C."""
    rate = f", R_C {row['label_rate']:.3g}" if np.isfinite(row["label_rate"]) else ""
    return f"{row['accuracy']:.1f}{rate}"
