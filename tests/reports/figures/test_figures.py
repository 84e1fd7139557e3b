"""Figures: a bar or a point for every row, at its place, with its error; files that are pictures."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcpipe.reports import figures

NAMES = ("random", "herding", "k_center", "badge", "bait", "gradmatch", "el2n", "least_confidence", "score", "other")
CONDITIONS = "convnet-d2-w32, 100 epochs; 100 views per image, labelled by convnet; rpca, 4 times smaller"


def rows_of(names: tuple[str, ...], ipc: tuple[int, ...], accuracy: float = 60.0) -> list[dict[str, Any]]:
    return [
        {"selector": name, "ipc": k, "accuracy": accuracy + 3 * i + j, "std": 0.5 + i / 4, "seeds": 3}
        for i, name in enumerate(names)
        for j, k in enumerate(ipc)
    ]


def points(alphas: list[float], betas: list[float]) -> list[dict[str, Any]]:
    def row(name: str, swept: str, alpha: float | None, beta: float | None, accuracy: float) -> dict[str, Any]:
        place = {"selector": name, "swept": swept, "alpha": alpha, "beta": beta, "ipc": 10}
        return {**place, "accuracy": accuracy, "std": 0.25, "seeds": 4}

    return [
        row("random", "", None, None, 50.0),
        *(row(f"alpha-{value}", "alpha", value, 0.1, 60 + i) for i, value in enumerate(alphas)),
        *(row(f"beta-{value}", "beta", 5.0, value, 70 + i) for i, value in enumerate(betas)),
    ]


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5, "the picture is empty"
        return image.size


@pytest.mark.parametrize("ipc", [(1,), (1, 10), (1, 10, 50, 100)])
@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:3], NAMES])
def test_every_row_is_a_bar_in_the_panel_of_its_ipc(names: tuple[str, ...], ipc: tuple[int, ...]) -> None:
    rows = rows_of(names, ipc)
    figure = figures.bars(rows, "test", CONDITIONS)
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == [f"{k} image{'s' * (k > 1)} per class" for k in ipc]
    for panel, k in zip(panels, ipc, strict=True):
        own = [row for row in rows if row["ipc"] == k]
        bars = panel.patches
        assert [bar.get_width() for bar in bars] == [row["accuracy"] for row in own]
        # The first name is at the top, and each bar is next to its name.
        middles = [bar.get_y() + bar.get_height() / 2 for bar in bars]
        assert np.round(middles, 9).tolist() == list(range(len(names), 0, -1))
        assert panel.get_yticks().tolist() == np.round(middles, 9).tolist()
        if panel.get_subplotspec().is_first_col():  # the others share its names
            assert [label.get_text() for label in panel.get_yticklabels()] == list(names)
        told = [text.get_text() for text in panel.texts]
        assert told == [f"{row['accuracy']:.1f} ± {row['std']:.1f}" for row in own]
        [errors] = panel.collections
        ends = [[row["accuracy"] - row["std"], row["accuracy"] + row["std"]] for row in own]
        np.testing.assert_allclose([segment[:, 0] for segment in errors.get_segments()], ends)
        [baseline] = [line for line in panel.lines if line.get_linestyle() == "--"]
        assert list(baseline.get_xdata()) == [own[0]["accuracy"]] * 2
        left, right = panel.get_xlim()
        assert left <= min(low for low, _ in ends) and right >= max(high for _, high in ends)
    size_of(figures.png(figure))


def test_kinds_of_labels_have_panels_of_their_own_and_differences_are_written() -> None:
    compared = {"against": "random", "difference": -1.25, "difference_ci": 2.151}
    itself = {"against": "", "difference": "", "difference_ci": ""}
    rows = [
        {**row, "labels": kind, "accuracy": row["accuracy"] + (kind == "hard"), **(itself if first else compared)}
        for row, first in zip(rows_of(NAMES[:2], (1, 10)), (True, True, False, False), strict=True)
        for kind in ("packed", "hard")
    ]
    assert [row["selector"] for row in rows if not row["against"]] == [NAMES[0]] * 4
    figure = figures.bars(rows, "test", CONDITIONS)
    assert [panel.get_title() for panel in figure.axes] == [
        "1 image per class, packed labels",
        "10 images per class, packed labels",
        "1 image per class, hard labels",
        "10 images per class, hard labels",
    ]
    for panel, (kind, ipc) in zip(figure.axes, (("packed", 1), ("packed", 10), ("hard", 1), ("hard", 10)), strict=True):
        own = [row for row in rows if (row["labels"], row["ipc"]) == (kind, ipc)]
        assert [bar.get_width() for bar in panel.patches] == [row["accuracy"] for row in own]
        first, second = [text.get_text() for text in panel.texts]
        assert "(" not in first and second.endswith("  (-1.2 ± 2.2)")
    assert figure.get_suptitle().startswith(
        "Selectors: mean and standard deviation over 3 seeds; in brackets, difference to random with its 95 % interval"
    )
    size_of(figures.png(figure))


def test_an_axis_that_does_not_start_at_zero_says_so() -> None:
    near = figures.bars(rows_of(NAMES[:3], (10,), 90.0), "test", CONDITIONS).axes[0]
    assert near.get_xlim()[0] == 80 and near.get_xlabel() == "top-1 accuracy on test (%), axis from 80"
    far = figures.bars(rows_of(NAMES, (10,), 10.0), "minival", CONDITIONS).axes[0]
    assert far.get_xlim()[0] == 0 and far.get_xlabel() == "top-1 accuracy on minival (%)"


def test_without_random_there_is_no_baseline_and_zeros_can_be_drawn() -> None:
    rows = [{"selector": "score", "ipc": 1, "accuracy": 0.0, "std": 0.0, "seeds": 3}]
    panel = figures.bars(rows, "test", CONDITIONS).axes[0]
    assert [line for line in panel.lines if line.get_linestyle() == "--"] == []
    assert panel.get_xlim()[0] == 0 < panel.get_xlim()[1]


def test_lines_run_through_the_points_of_their_sweep_over_the_band_of_random() -> None:
    alphas, betas = [0.1, 1.0, 5.0], [0.001, 0.1]
    figure = figures.lines(points(alphas, betas), "minival", CONDITIONS)
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("alpha (beta = 0.1)", "beta (alpha = 5)")
    assert left.get_ylabel() == "top-1 accuracy on minival (%)"
    for panel, values, first in ((left, alphas, 60), (right, betas, 70)):
        [curve] = [line for line in panel.lines if line.get_marker() in "os"]
        assert list(curve.get_xdata()) == values
        assert list(curve.get_ydata()) == [first + i for i in range(len(values))]
        assert panel.get_xscale() == "log"
        assert [text.get_text() for text in panel.get_xticklabels()] == [f"{value:g}" for value in values]
        [band] = panel.patches
        assert (band.get_y(), band.get_y() + band.get_height()) == (49.75, 50.25)
        [mean] = [line for line in panel.lines if line.get_linestyle() == "--"]
        assert list(mean.get_ydata()) == [50, 50]
        [error] = panel.containers
        assert error.has_yerr
    assert left.get_shared_y_axes().joined(left, right)
    size_of(figures.png(figure))


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0], "log"), ([0.0, 0.1, 1.0], "symlog"), ([0.0], "linear"), ([0.5, 0.6], "log")]
)
def test_the_axis_of_values_fits_them(values: list[float], scale: str) -> None:
    figure = figures.lines(points(values, [1.0]), "test", CONDITIONS)
    panel = figure.axes[0]
    assert panel.get_xscale() == scale
    assert panel.get_xticks().tolist() == values
    size_of(figures.png(figure))


def test_the_title_says_seeds_and_conditions() -> None:
    title = figures.bars(rows_of(NAMES, (1, 10)), "test", CONDITIONS).get_suptitle()
    assert title == f"Selectors: mean and standard deviation over 3 seeds\n{CONDITIONS}"
    title = figures.lines(points([1.0], [1.0]), "test", CONDITIONS).get_suptitle()
    assert title.startswith("Coefficients of score at 10 images per class: mean and standard deviation over 4 seeds\n")


def test_the_same_rows_have_the_same_picture() -> None:
    rows = rows_of(NAMES[:3], (1, 10))
    first, again = (figures.png(figures.bars(rows, "test", CONDITIONS)) for _ in range(2))
    assert first == again and b"matplotlib" not in first.lower()


def test_drawing_leaves_no_global_state_and_needs_no_screen() -> None:
    code = (
        "import sys; from dcpipe.reports import figures; assert 'matplotlib' not in sys.modules;"
        "rows = [dict(selector='a', ipc=1, accuracy=1.0, std=0.1, seeds=3)];"
        "figures.png(figures.bars(rows, 'test', ''));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "DISPLAY": ""})


def codec_rows(taught: bool) -> list[dict[str, Any]]:
    def row(codec: str, ratio: Any, size: int, kl: Any, accuracy: Any) -> dict[str, Any]:
        std = "" if accuracy == "" else 0.5
        place = {"codec": codec, "ratio": ratio, "bytes": size, "fp16_bytes": 100_000, "seeds": 3}
        return {**place, "kl_t4": kl, "accuracy": accuracy if taught else "", "std": std if taught else ""}

    return [
        row("uncompressed", "", 100_512, "", 50.0),
        row("teacher online", "", 4_000, "", 51.0),
        row("mean label", "", 1_400, 0.9, 35.0),
        row("svd", 10, 9_900, 0.1, 45.0),
        row("svd", 20, 4_900, 0.2, 40.0),
        row("svd", 200, 0, "", ""),
        row("topk", 10, 9_800, float("inf"), ""),
        row("topk", 20, 4_800, 0.5, ""),
    ]


@pytest.mark.parametrize("taught", [True, False])
def test_every_pack_is_a_point_of_its_codec(taught: bool) -> None:
    figure = figures.codecs(codec_rows(taught), 4.0, "test", CONDITIONS)
    size_of(figures.png(figure))
    panels = [panel for panel in figure.axes if panel.get_xlabel() == "bytes of the label file"]
    assert len(panels) == 1 + taught
    lines = {line.get_label(): line.get_xydata().tolist() for line in panels[0].lines}
    assert lines == {
        "svd": [[9_900, 0.1], [4_900, 0.2]],
        "topk": [[4_800, 0.5]],
        "mean label": [[1_400, 0.9]],
    }
    above = panels[0].child_axes[0]
    assert [label.get_text() for label in above.get_xticklabels()] == ["10", "20"]
    if taught:
        points, mean = panels[1].containers
        assert points.lines[0].get_xydata().tolist() == [[9_900, 45], [4_900, 40]]
        assert mean.lines[0].get_xydata().tolist() == [[1_400, 35]]
        bands = {line.get_label(): line.get_ydata()[0] for line in panels[1].lines if line.get_label()[0] != "_"}
        assert bands == {"uncompressed": 50, "teacher online": 51}


def drop_rows() -> list[dict[str, Any]]:
    def row(name: str, ratio: Any, drop: Any, rate: float) -> dict[str, Any]:
        codec = "svd" if ratio else "mean label" if drop else "uncompressed"
        told = {
            "selector": name,
            "ipc": 10,
            "codec": codec,
            "ratio": ratio,
            "label_bytes": 2_500,
            "fp16_label_bytes": 200_000,
            "label_rate": rate,
        }
        reached = drop != ""
        told |= {"accuracy": 90.0 - drop if reached else "", "drop": drop, "drop_std": 0.5 if reached else ""}
        return {**told, "seeds": 3 if reached else 0, "note": "" if reached else "too few bytes"}

    return [
        *(
            row("random", ratio, drop, 14.25)
            for ratio, drop in (("", 0.0), ("", 6.0), (2.0, 1.0), (5.0, 4.0), (20.0, ""))
        ),
        *(
            row("score", ratio, drop, float("inf"))
            for ratio, drop in (("", 0.0), ("", 7.0), (2.0, -0.5), (5.0, 2.0), (20.0, ""))
        ),
    ]


def test_every_drop_is_a_point_next_to_the_others_of_its_ratio() -> None:
    figure = figures.drops(drop_rows(), "test", CONDITIONS)
    size_of(figures.png(figure))
    panel = figure.axes[0]
    lines, stars = panel.containers[:2], panel.containers[2:]
    for points, name, drops in zip(lines, ("random", "score"), ([1.0, 4.0], [-0.5, 2.0]), strict=True):
        line, _, [bars] = points.lines
        assert list(line.get_ydata()) == drops
        np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [2, 5], rtol=0.015)
        assert (line.get_xdata()[0] < 2) == (name == "random"), "side by side, in the order of the rows"
        ends = [[drop - 0.5, drop + 0.5] for drop in drops]
        assert [segment[:, 1].tolist() for segment in bars.get_segments()] == ends
    for points, drop, star in zip(lines, (6.0, 7.0), stars, strict=True):
        assert star.lines[0].get_xydata().tolist() == [[80, drop]], "the mean label, at the ratio of its file"
        assert star.lines[0].get_color() == points.lines[0].get_color()
    low, high = panel.get_ylim()
    assert low > high, "a drop goes down"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["2", "5"]
    assert [text.get_text() for text in panel.child_axes[0].get_xticklabels()] == ["100 kB", "40 kB"]
    told = [text.get_text() for text in panel.get_legend().get_texts()]
    assert told == ["uncompressed", "mean label, 2.5 kB", "random: 90.0, R_C 14.2", "score: 90.0"], (
        "what R_C is not known for has none"
    )
    title = "Compressed labels at 10 images per class: mean and standard deviation of the drop over 3 seeds"
    assert figure.get_suptitle().replace("\n", " ").startswith(title)


def test_spectra_are_medians_of_images_and_of_classes() -> None:
    source = np.random.default_rng(0)
    values = np.sort(source.uniform(0.01, 1, (40, 6)), axis=1)[:, ::-1] / 1.0
    values[20:] *= 0.5
    labels = np.repeat([0, 3], 20)
    figure = figures.spectra(values, labels, ("ant", "bee", "cow", "dog"), CONDITIONS)
    size_of(figures.png(figure))
    images, classes = figure.axes
    np.testing.assert_allclose(images.lines[0].get_ydata(), np.median(values, axis=0))
    named = {line.get_label(): line.get_ydata() for line in classes.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(named["lowest: dog"], np.median(values[20:], axis=0))
    np.testing.assert_allclose(named["highest: ant"], np.median(values[:20], axis=0))


def test_a_pareto_figure_has_a_point_per_row_and_joins_those_that_are_not_beaten() -> None:
    def row(name: str, accuracy: float, size: int, std: float | str = 0.5) -> dict[str, Any]:
        return {"set": name, "accuracy": accuracy, "std": std, "total_bytes": size}

    rows = [
        row("a", 80, 20_000),
        row("b", 75, 30_000),
        row("c", 90, 70_000, ""),
        row("d", 90, 80_000),
        row("e", 70, 20_000),
    ]
    assert [row["set"] for row in figures.frontier(rows)] == ["a", "c"]
    figure = figures.pareto(rows, "test", CONDITIONS)
    [panel] = figure.axes
    assert panel.get_xscale() == "log" and len(panel.containers) == len(rows)
    [line] = [line for line in panel.lines if line.get_label() == "not beaten at fewer bytes"]
    assert line.get_ydata().tolist() == [80, 90]
    size_of(figures.png(figure))
