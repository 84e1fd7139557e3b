"""Figures of studies: bars by selector (SCORE, Fig. 2), lines by coefficient (Fig. 4), by codec (Fig. 3), of drops by
selector (Fig. 5), and by size (MDC, Fig. 2).

They take the rows of `summary` of `studies`, `resilience` or `sizes`, or of `studies.label_row`. Colours are Okabe and
Ito's, which colour-blind people can tell apart; what colour says is said by position, marker or text too. matplotlib is
imported where it draws: reading a release does not need it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from dcpipe.types import FloatArray, IntArray, require

Row = Mapping[str, Any]
Figure = Any  # matplotlib's, which is not typed
Panel = Any
BLUE, VERMILION, GREY, BLACK = "#0072B2", "#D55E00", "#999999", "#000000"
CYCLE = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
MARKERS = "osD^vP*X<>h"
BASELINE = "random"
PANELS_WIDE = 3


def need_matplotlib() -> None:
    """Raises `DataError` where matplotlib is not installed: better before hours of work than after."""
    require(find_spec("matplotlib") is not None, "figures need matplotlib, which is absent; install dcpipe[pipeline]")


def bars(rows: Sequence[Row], split: str, told: str, title: str = "Selectors") -> Figure:
    """One panel an ipc, in it one bar an entry: the mean accuracy in percent, its standard deviation as error bar, both
    as text, and the mean of `random` as a dashed line. Bars whose ends are near each other start above zero, and their
    axis says so. `told` stands under the title."""
    names, sizes = _distinct(rows, "selector"), _distinct(rows, "ipc")
    wide = min(len(sizes), PANELS_WIDE)
    high = -(-len(sizes) // wide)
    figure, panels = canvas(high, wide, 1.8 + 3.4 * wide, 0.8 + high * (0.9 + 0.3 * len(names)))
    for panel, ipc in zip(panels, sizes, strict=False):
        start = _draw_bars(panel, names, [row for row in rows if row["ipc"] == ipc])
        panel.set_title(f"{ipc} image{'s' if ipc > 1 else ''} a class", fontsize=10)
        panel.set_xlabel(f"top-1 accuracy on {split} (%)" + (f", axis from {start}" if start else ""))
    for panel in panels[len(sizes) :]:
        panel.set_visible(False)
    entitle(figure, f"{title}: mean and standard deviation over {rows[0]['seeds']} seeds", told)
    return figure


def lines(rows: Sequence[Row], split: str, told: str) -> Figure:
    """One panel a coefficient, in it the mean accuracy in percent against its value with the standard deviation as
    error bars, and `random` as a band of one standard deviation either way. The axis of values is logarithmic; where
    zero is among them, it is linear below the smallest positive one."""
    [random] = [row for row in rows if row["selector"] == BASELINE]
    figure, panels = canvas(1, 2, 8.2, 3.6)
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
    entitle(figure, f"{title}: mean and standard deviation over {random['seeds']} seeds", told)
    return figure


def codecs(rows: Sequence[Row], temperature: float, split: str, told: str) -> Figure:
    """Against the bytes of the file, on a logarithmic axis with the ratio to fp16 on top: at the left the divergence at
    `temperature`, one line a codec; at the right, where students were trained, their mean accuracy in percent with the
    standard deviation, and those of the rows without a ratio (uncompressed, online, hard) as bands."""
    packs = [row for row in rows if row["ratio"] != "" and row["bytes"]]
    taught = any(row["accuracy"] != "" for row in rows)
    names = _distinct(packs, "codec")
    fp16, ratios = packs[0]["fp16_bytes"], _distinct(packs, "ratio")
    figure, panels = canvas(1, 1 + taught, 5.2 + 5.2 * taught, 5.0, sharey=False)
    key = f"kl_t{temperature:g}"

    def times(size: Any) -> Any:
        return fp16 / np.maximum(size, 1e-9)

    for index, name in enumerate(names):
        own = [row for row in packs if row["codec"] == name]
        again = index >= len(CYCLE)  # colours come round dashed
        style = {"color": CYCLE[index % len(CYCLE)], "linestyle": "--" if again else "-", "markersize": 5}
        style["marker"] = MARKERS[index % len(MARKERS)]
        finite = [row for row in own if 0 < row[key] < float("inf")]
        if finite:
            panels[0].plot([row["bytes"] for row in finite], [row[key] for row in finite], label=name, **style)
        scored = [row for row in own if row["accuracy"] != ""]
        if scored:
            x, y, bars = zip(*((row["bytes"], row["accuracy"], row["std"]) for row in scored), strict=True)
            panels[1].errorbar(x, y, bars, label=name, capsize=3, linewidth=1.2, **style)
    panels[0].set_yscale("log")
    panels[0].set_ylabel(f"KL(teacher, decoded) at T = {temperature:g}, times T²")
    if taught:
        for row, colour, line in zip(_bands(rows), (BLACK, BLUE, GREY), ("-", "--", ":"), strict=False):
            panels[1].axhline(row["accuracy"], color=colour, linestyle=line, linewidth=1, label=row["codec"])
            low, high = row["accuracy"] - row["std"], row["accuracy"] + row["std"]
            panels[1].axhspan(low, high, color=colour, alpha=0.08, linewidth=0)
        panels[1].set_ylabel(f"top-1 accuracy on {split} (%)")
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xlabel("bytes of the label file")
        panel.set_xticks([fp16 / ratio for ratio in ratios], [_kilo(fp16 / ratio) for ratio in ratios], rotation=30)
        panel.set_xticks([], minor=True)
        panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=7.5, frameon=False, ncols=2)
        above = panel.secondary_xaxis("top", functions=(times, times))
        above.set_xlabel("times smaller than fp16", fontsize=9)
        above.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
        above.set_xticks([], minor=True)
        above.tick_params(labelsize=8)
    seeds = max(row["seeds"] for row in rows)
    entitle(
        figure, "Codecs at equal bytes" + (f": mean and standard deviation over {seeds} seeds" if taught else ""), told
    )
    return figure


def drops(rows: Sequence[Row], split: str, told: str) -> Figure:
    """Against the ratio of labels in fp16 to the file, on a logarithmic axis with the budget's bytes on top: how many
    points the mean accuracy of every selector's students lies below theirs with uncompressed labels, with the standard
    deviation of that difference. Points of one ratio stand side by side, so that error bars can be told apart; a ratio
    that a selector's labels did not reach has none. The legend says the accuracy that drops start from, and R_C."""
    names, wholes = _distinct(rows, "selector"), {row["selector"]: row for row in rows if row["ratio"] == ""}
    reached = [row for row in rows if row["ratio"] != "" and not row["note"]]
    ratios, fp16 = _distinct(reached, "ratio"), rows[0]["fp16_label_bytes"]
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
    above.set_xticks(ratios, [_kilo(fp16 / ratio) for ratio in ratios])
    above.set_xticks([], minor=True)
    above.tick_params(labelsize=8)
    seeds, ipc = wholes[names[0]]["seeds"], rows[0]["ipc"]
    title = f"Compressed labels at {ipc} image{'s' if ipc > 1 else ''} a class"
    entitle(figure, f"{title}: mean and standard deviation of the drop over {seeds} seeds", told)
    return figure


def sizes(rows: Sequence[Row], split: str, told: str) -> Figure:
    """One line an entry, baselines dashed: mean accuracy in percent against images a class, with the standard deviation
    as error bars. The legend says the average over sizes."""
    figure, [panel] = canvas(1, 1, 7.2, 4.6)
    for index, name in enumerate(_distinct(rows, "entry")):
        *own, average = [row for row in rows if row["entry"] == name]
        panel.errorbar(
            [row["size"] for row in own],
            [row["accuracy"] for row in own],
            [row["std"] for row in own],
            color=CYCLE[index % len(CYCLE)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="--" if name[-2:] in ("-A", "-B", "-C") else "-",
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=f"{name}: {average['accuracy']:.1f} on average",
        )
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("images a class")
    panel.set_ylabel(f"top-1 accuracy on {split} (%)")
    panel.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=8, frameon=False)
    entitle(figure, f"Sizes of one set: mean and standard deviation over {rows[0]['seeds']} seeds", told)
    return figure


def _short(name: str) -> str:
    """A class's first name: ImageNet's are lists of synonyms."""
    return textwrap.shorten(name.split(",")[0], 24, placeholder="…")


def _kilo(size: float) -> str:
    return f"{size / 1000:.3g} kB" if size < 1e6 else f"{size / 1e6:.3g} MB"


def _bands(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["ratio"] == "" and row["accuracy"] != ""]


def spectra(values: FloatArray, labels: IntArray, classes: Sequence[str], told: str) -> Figure:
    """Singular values f64 [n, r] of images' labels relative to each one's largest, by component: at the left the median
    over images with the first and last tenth as a band; at the right the median of every class, with the names of the
    classes whose labels are lowest and highest in rank."""
    figure, panels = canvas(1, 2, 9.4, 4.2)
    components = np.arange(1, values.shape[1] + 1)
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
    panels[0].fill_between(components, low, high, color=BLUE, alpha=0.2, linewidth=0, label="10th to 90th percentile")
    panels[0].plot(components, middle, color=BLUE, label="median over images")
    present = np.unique(labels)
    medians = np.stack([np.median(values[labels == label], axis=0) for label in present])
    order = np.argsort((medians**2).sum(axis=1))
    panels[1].plot(components, medians.T, color=GREY, alpha=0.4, linewidth=0.7)
    for place, colour, word in ((order[0], BLUE, "lowest"), (order[-1], VERMILION, "highest")):
        panels[1].plot(components, medians[place], color=colour, label=f"{word}: {_short(classes[present[place]])}")
    for panel, title in zip(panels, ("images", "classes"), strict=True):
        panel.set_yscale("log")
        panel.set_ylim(bottom=max(1e-4, 0.5 * float(middle.min())))
        panel.set_xlabel("component")
        panel.set_title(title, fontsize=10)
        panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel("singular value against the largest")
    entitle(figure, "Spectra of soft labels, views by classes", told)
    return figure


def png(figure: Figure) -> bytes:
    """The figure's file, without the version of the library that drew it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _distinct(rows: Sequence[Row], key: str) -> list[Any]:
    """Values of a column in order of first appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def canvas(high: int, wide: int, width: float, height: float, sharey: bool = True) -> tuple[Figure, list[Panel]]:
    """A figure of `width` x `height` inches that no global state knows, and its panels, which share their y axis unless
    `sharey` is false."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = list(figure.subplots(high, wide, sharey=sharey, squeeze=False).ravel())
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


def entitle(figure: Figure, title: str, told: str) -> None:
    """The title, and below it as many lines as `told` takes at this width."""
    columns = int(figure.get_figwidth() * 13)
    figure.suptitle(f"{textwrap.fill(title, columns)}\n{textwrap.fill(told, columns)}", fontsize=10)
