"""The figure of codecs: however many there are, their lines can be distinguished."""

from __future__ import annotations

from typing import Any

from dcpipe.compression import CODECS
from dcpipe.reports import figures
from dcpipe.reports.figures.base import CYCLE


def rows_of(codecs: list[str]) -> list[dict[str, Any]]:
    """A pack of each codec at two ratios, with a student trained on it."""
    return [
        {"codec": codec, "ratio": ratio, "bytes": 100_000 // ratio - i, "fp16_bytes": 100_000, "seeds": 3, "kl_t4": 0.1}
        | {"accuracy": 40.0 + i, "std": 0.5}
        for i, codec in enumerate(codecs)
        for ratio in (10, 20)
    ]


def test_colours_come_round_dashed() -> None:
    """There are more codecs than colours that colour-blind people can tell apart: a second round has dashed lines."""
    names = sorted(CODECS)
    assert len(CYCLE) < len(names) <= 2 * len(CYCLE), "give a third round a line style of its own"
    divergences, accuracies = figures.codecs(rows_of(names), 4.0, "test", "").axes[:2]
    curves = {curve.get_label(): curve for curve in divergences.lines}
    bars = {container.get_label(): container.lines[0] for container in accuracies.containers}
    for drawn in (curves, bars):
        assert list(drawn) == names
        styles = [(drawn[name].get_color(), drawn[name].get_linestyle()) for name in names]
        assert styles == [(CYCLE[i % len(CYCLE)], "-" if i < len(CYCLE) else "--") for i in range(len(names))]
        assert len(set(styles)) == len(names)
    assert [curves[name].get_marker() for name in names] == [bars[name].get_marker() for name in names]


def test_bytes_per_image_are_with_every_size() -> None:
    """A ratio to fp16 grows with the number of views; bytes per image do not."""
    rows = [{**row, "bytes_per_image": row["bytes"] / 50} for row in rows_of(["svd", "topk"])]
    figure = figures.codecs(rows, 4.0, "test", "")
    for panel in figure.axes[:2]:
        assert panel.get_xlabel() == "bytes of the label file, and per image"
        assert [label.get_text() for label in panel.get_xticklabels()] == ["10 kB\n200 B", "5 kB\n100 B"]
