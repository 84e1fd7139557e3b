"""Figures of the study of compressions: a panel per set, a line per codec, curves with and without compression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcpipe.reports import figures
from dcpipe.reports.figures.base import CYCLE

CODECS = ("prune", "rpca", "field")


def rows_of(sets: list[tuple[str, int]], codecs: tuple[str, ...] = CODECS) -> list[dict[str, Any]]:
    """Per set: uncompressed labels, the mean label, and every codec at 5 and 10 times; the first codec ends at 5."""

    def row(codec: str, ratio: Any, drop: float, size: int, note: str = "") -> dict[str, Any]:
        told = {"codec": codec, "ratio": ratio, "fp16_label_bytes": 200_000, "label_bytes": size, "note": note}
        if note:
            return {**told, "accuracy": "", "drop": "", "drop_std": "", "seeds": 0}
        return {**told, "accuracy": 90.0 - drop, "drop": drop, "drop_std": 0.5, "seeds": 3}

    return [
        {"variant": variant, "ipc": ipc, **its}
        for index, (variant, ipc) in enumerate(sets)
        for its in (
            row("uncompressed", "", 0.0, 200_500),
            row("mean label", "", 9.0 + index, 2_000),
            *(
                row(codec, ratio, ratio / 5 + i + index, 1, "too few bytes" if (i, ratio) == (0, 10.0) else "")
                for i, codec in enumerate(codecs)
                for ratio in (5.0, 10.0)
            ),
        )
    ]


@pytest.mark.parametrize("sets", [[("random", 10)], [(name, ipc) for name in ("random", "sre2l") for ipc in (1, 10)]])
def test_every_set_is_a_panel_with_a_line_per_codec(sets: list[tuple[str, int]]) -> None:
    figure = figures.drops(rows_of(sets), "test", "100 epochs")
    figures.png(figure)
    panels = [panel for panel in figure.axes if panel.get_visible()]
    ordered = sorted(sets, key=lambda place: place[1])
    assert [panel.get_title() for panel in panels] == [
        f"{variant}, {ipc} image{'s' * (ipc > 1)} per class: 90.0" for variant, ipc in ordered
    ]
    for panel, place in zip(panels, ordered, strict=True):
        index = sets.index(place)
        *lines, star = panel.containers
        for i, line in enumerate(lines):
            ratios = [5.0] if i == 0 else [5.0, 10.0]
            np.testing.assert_allclose(np.asarray(line.lines[0].get_xdata(), float), ratios, rtol=0.03)
            assert list(line.lines[0].get_ydata()) == [ratio / 5 + i + index for ratio in ratios]
        assert star.lines[0].get_xydata().tolist() == [[100, 9 + index]]
        told = sorted(text.get_text() for text in panel.get_legend().get_texts())
        assert told == sorted(["uncompressed", "mean label, 2 kB", *CODECS])
        low, high = panel.get_ylim()
        assert low > high, "a drop goes down in every panel"
    title = figure.get_suptitle().replace("\n", " ")
    at = f" at {sets[0][1]} images per class" if len(sets) == 1 else ""
    assert title.startswith(f"Compressed labels{at}: mean and standard deviation of the drop over 3 seeds")


@pytest.mark.parametrize(
    ("variants", "sizes", "columns"), [(1, 1, 1), (1, 4, 3), (2, 1, 2), (2, 3, 2), (4, 2, 4), (5, 2, 3), (5, 1, 3)]
)
def test_sets_of_one_size_are_in_one_row_if_they_fit(variants: int, sizes: int, columns: int) -> None:
    sets = [(f"variant-{i}", ipc) for i in range(variants) for ipc in range(1, sizes + 1)]
    panels = [panel for panel in figures.drops(rows_of(sets), "test", "").axes if panel.get_visible()]
    assert len(panels) == len(sets)
    assert {panel.get_gridspec().ncols for panel in panels} == {columns}
    assert [panel.get_ylabel() != "" for panel in panels] == [i % columns == 0 for i in range(len(sets))]


def test_lines_can_be_told_apart_when_colours_repeat() -> None:
    codecs = tuple(f"codec-{i}" for i in range(len(CYCLE) + 1))
    [panel] = figures.drops(rows_of([("random", 10)], codecs), "test", "").axes
    first, again = panel.containers[0].lines[0], panel.containers[len(CYCLE)].lines[0]
    assert first.get_color() == again.get_color() and first.get_linestyle() != again.get_linestyle()


def test_a_set_for_which_nothing_is_reached_has_an_empty_panel() -> None:
    rows = [{**row, "note": "too few bytes"} if row["ratio"] else row for row in rows_of([("random", 10)])]
    rows = [{**row, "drop": "", "drop_std": "", "accuracy": ""} if row["note"] else row for row in rows]
    figure = figures.drops(rows, "test", "")
    figures.png(figure)
    [panel] = figure.axes
    assert all(len(line.lines[0].get_xdata()) == 0 for line in panel.containers[:-1])


def test_curves_with_and_without_compression_are_in_the_panel_of_their_set() -> None:
    names = ("uncompressed", "prune, 5x", "rpca, 5x")
    rows: list[dict[str, Any]] = [
        {
            "variant": variant,
            "ipc": ipc,
            "labels": name,
            "epoch": epoch,
            "accuracy": epoch * (i + 1),
            "std": 1,
            "seeds": 3,
        }
        for variant in ("random", "sre2l")
        for ipc in (5, 10)
        for i, name in enumerate(names)
        for epoch in (5, 10)
        if (variant, name) != ("sre2l", "prune, 5x")
    ]
    panels = figures.curves(rows, "test", "", "labels").axes
    assert [panel.get_title() for panel in panels if panel.get_visible()] == [
        f"{variant}, {ipc} images per class" for ipc in (5, 10) for variant in ("random", "sre2l")
    ]
    assert [line.get_label() for line in panels[0].lines] == list(names)
    assert [line.get_label() for line in panels[1].lines] == ["uncompressed", "rpca, 5x"]
    assert [line.get_color() for line in panels[1].lines] == [panels[0].lines[i].get_color() for i in (0, 2)]
    assert panels[1].lines[1].get_xydata().tolist() == [[5, 15], [10, 30]]
