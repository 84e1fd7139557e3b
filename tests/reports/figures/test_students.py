"""Figures of the study of students: a bar and a line for every row, at its place."""

from __future__ import annotations

from typing import Any

import pytest

from dcpipe.reports import figures

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")


@pytest.mark.parametrize("sizes", [(1,), (5, 10, 30, 50)])
def test_every_row_is_a_bar_of_its_group(sizes: tuple[int, ...]) -> None:
    rows: list[dict[str, Any]] = [
        {"network": name, "ipc": ipc, "accuracy": 10.0 * i + j, "std": 0.5, "seeds": 3}
        for j, ipc in enumerate(sizes)
        for i, name in enumerate(NETWORKS)
    ]
    figure = figures.grouped(rows, "test", "300 epochs")
    [panel] = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == list(NETWORKS)
    bars = sorted((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in panel.patches)
    assert [height for _, height in bars] == [10.0 * i + j for i in range(3) for j in range(len(sizes))]
    assert all(abs(place - index // len(sizes)) < 0.45 for index, (place, _) in enumerate(bars))
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        f"{ipc} image{'s' * (ipc > 1)} per class" for ipc in sizes
    ]
    assert sorted(text.get_text() for text in panel.texts) == sorted(f"{row['accuracy']:.1f}" for row in rows)
    assert "3 seeds" in "".join(text.get_text() for text in figure.texts)


def test_every_network_is_a_line_over_epochs_in_the_panel_of_its_size() -> None:
    rows: list[dict[str, Any]] = [
        {"network": name, "ipc": ipc, "epoch": epoch, "accuracy": epoch * (i + 1) + ipc, "std": 1.0, "seeds": 3}
        for ipc in (1, 10)
        for i, name in enumerate(NETWORKS)
        for epoch in (5, 10, 20)
    ]
    figure = figures.curves(rows, "minival", "300 epochs")
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["1 image per class", "10 images per class"]
    for panel, ipc in zip(panels, (1, 10), strict=True):
        assert [line.get_label() for line in panel.lines] == list(NETWORKS)
        for i, line in enumerate(panel.lines):
            assert line.get_xydata().tolist() == [[e, e * (i + 1) + ipc] for e in (5, 10, 20)]
        assert len(panel.collections) == len(NETWORKS), "a band of the deviation for each"
    assert panels[0].get_ylabel() == "top-1 accuracy on minival (%)"
