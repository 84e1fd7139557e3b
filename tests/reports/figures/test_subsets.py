"""The figure of chosen subsets: every change at its loop, the frozen part below, classes and their mean."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dcpipe.reports import figures
from dcpipe.reports.figures.subsets import distance_figure, subset_figure

SHARED = [(0, -1, 0, 0), (1, -1, 1, 0), (100, -1, 3, 1), (200, -1, 2, 0), (299, -1, 2, 0)]
OWN = [(0, 0, 1, 0), (0, 1, 1, 0), (50, 0, 4, 1), (50, 1, 1, 0), (99, 0, 4, 1), (99, 1, 1, 0)]


def rows_of(table: list[tuple[int, int, int, int]]) -> list[dict[str, int]]:
    return [dict(zip(("loop", "class", "subset", "frozen"), row, strict=True)) for row in table]


def test_a_choice_of_all_classes_is_a_step_line_over_its_frozen_part() -> None:
    figure = subset_figure(rows_of(SHARED), "mdc, seed 0")
    [panel] = figure.axes
    [line] = panel.lines
    assert line.get_drawstyle() == "steps-post"
    assert list(line.get_xdata()) == [0, 1, 100, 200, 299] and list(line.get_ydata()) == [0, 1, 3, 2, 2]
    assert line.get_marker() == "o" and line.get_markevery() == [0, 1, 2, 3], "the last row is no change"
    [shade] = panel.collections
    corners = shade.get_paths()[0].vertices
    assert corners[:, 1].max() == 1 and corners[:, 1].min() == 0
    assert corners[corners[:, 1] == 1, 0].min() == 100 and corners[corners[:, 1] == 1, 0].max() == 200
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("outer loop", "images a class")
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["frozen part", "subset"]
    assert figure.get_suptitle() == "Subsets chosen and frozen\nmdc, seed 0"
    low, high = panel.get_ylim()
    assert low == 0 and high > 3


def test_classes_are_faint_lines_around_their_mean() -> None:
    [panel] = subset_figure(rows_of(OWN), "").axes
    *each, mean = panel.lines
    assert [list(line.get_ydata()) for line in each] == [[1, 4, 4], [1, 1, 1]]
    assert all(line.get_alpha() < 1 for line in each) and mean.get_alpha() is None
    assert list(mean.get_ydata()) == [1, 2.5, 2.5] and mean.get_markevery() == [0, 1]
    [shade] = panel.collections
    assert shade.get_paths()[0].vertices[:, 1].max() == 0.5
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["mean frozen part", "mean subset"]


@pytest.mark.parametrize("table", [SHARED[1:2], SHARED, OWN], ids=["one", "shared", "own"])
def test_a_file_is_the_same_bytes_each_time(table: list[tuple[int, int, int, int]]) -> None:
    png = figures.png(subset_figure(rows_of(table), "mdc"))
    assert png == figures.png(subset_figure(rows_of(table), "mdc")) and b"Software" not in png
    with Image.open(io.BytesIO(png)) as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_distances_have_a_line_per_size() -> None:
    """Means over classes, at the loops that measured."""
    by_place = {(t, label, n): 10.0 * t + 3 * label + n for t in (0, 4) for label in (0, 1) for n in (1, 2)}
    rows = [{"loop": t, "class": c, "size": n, "distance": found} for (t, c, n), found in by_place.items()]
    [panel] = distance_figure(rows, "mdc").axes
    lines = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in panel.lines}
    assert lines == {"1": ([0, 4], [2.5, 42.5]), "2": ([0, 4], [3.5, 43.5])}
