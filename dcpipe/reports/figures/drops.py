"""How much accuracy each selector's set loses as its labels are compressed (SCORE, Fig. 5)."""

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
    """Against the ratio of labels in fp16 to the file, on a logarithmic axis with the budget's bytes on top: how many
    points the mean accuracy of every selector's students lies below theirs with uncompressed labels, with the standard
    deviation of that difference. Points of one ratio stand side by side, so that error bars can be told apart; a ratio
    that a selector's labels did not reach has none. The legend says the accuracy that drops start from, and R_C."""
    names, wholes = distinct(rows, "selector"), {row["selector"]: row for row in rows if row["ratio"] == ""}
    reached = [row for row in rows if row["ratio"] != "" and not row["note"]]
    ratios, fp16 = distinct(reached, "ratio"), rows[0]["fp16_label_bytes"]
    figure, [panel] = canvas(1, 1, 8.2, 4.6)
    panel.axhline(0, color=BLACK, linewidth=0.8, label="uncompressed")
    for index, name in enumerate(names):
        own, whole = [row for row in reached if row["selector"] == name], wholes[name]
        aside = 1.02 ** (index - (len(names) - 1) / 2)
        rate = f", R_C {whole['label_rate']:.3g}" if np.isfinite(whole["label_rate"]) else ""
        panel.errorbar(
            [row["ratio"] * aside for row in own],
            [row["drop"] for row in own],
            [row["drop_std"] for row in own],
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
    panel.invert_yaxis()  # a drop goes down
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
