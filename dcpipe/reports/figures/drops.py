"""How much accuracy the set of each selector loses as its labels are compressed (SCORE, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcpipe.reports.figures.base import (
    BLACK,
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


def drops(rows: Sequence[Row], split: str, conditions: str) -> Figure:
    """One line per selector: the drop of the mean accuracy, in points, compared with uncompressed labels.

    The horizontal axis is the ratio of labels in fp16 to the file, logarithmic, with the bytes of the budget at the
    top. Error bars are the standard deviation of the drop. Points of one ratio are shifted slightly, so that their
    error bars can be distinguished; a ratio that was not reached has no point. The legend contains the accuracy with
    uncompressed labels and R_C.
    """
    names, wholes = distinct(rows, "selector"), {row["selector"]: row for row in rows if row["ratio"] == ""}
    reached = [row for row in rows if row["ratio"] != "" and not row["note"]]
    ratios, fp16 = distinct(reached, "ratio"), rows[0]["fp16_label_bytes"]
    figure, [panel] = canvas(1, 1, 8.2, 4.6)
    panel.axhline(0, color=BLACK, linewidth=0.8, label="uncompressed")
    for index, name in enumerate(names):
        points, whole = [row for row in reached if row["selector"] == name], wholes[name]
        shift = 1.02 ** (index - (len(names) - 1) / 2)
        rate = f", R_C {whole['label_rate']:.3g}" if np.isfinite(whole["label_rate"]) else ""
        panel.errorbar(
            [row["ratio"] * shift for row in points],
            [row["drop"] for row in points],
            [row["drop_std"] for row in points],
            color=CYCLE[index % len(CYCLE)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=f"{name}: {whole['accuracy']:.1f}{rate}",
        )
    panel.set_xscale("log")
    panel.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("times smaller than fp16")
    panel.set_ylabel(f"drop of top-1 accuracy on {split} (points)")
    panel.invert_yaxis()  # so that a drop points downwards
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False)
    above = panel.secondary_xaxis("top")
    above.set_xlabel("bytes of the label file, at most", fontsize=9)
    above.set_xticks(ratios, [kilo(fp16 / ratio) for ratio in ratios])
    above.set_xticks([], minor=True)
    above.tick_params(labelsize=8)
    seeds, ipc = wholes[names[0]]["seeds"], rows[0]["ipc"]
    title = f"Compressed labels at {ipc} image{'s' if ipc > 1 else ''} per class"
    add_title(figure, f"{title}: mean and standard deviation of the drop over {seeds} seeds", conditions)
    return figure
