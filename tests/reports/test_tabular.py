"""Tables, spectra and pictures: plain numbers, checked against plain numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcpipe.reports import pictures, tabular
from dcpipe.types import ImageSet, Score, SoftLabels, ViewPolicy

SCORES = [
    Score("score, svd", "score", "net", 2, (50.0, 51.5, 49.25), 1000, 200, epochs=9),
    Score("score, teacher online", "score", "net", 2, (1 / 3,), 1000, 0, 5000),
]


def test_a_row_a_score_with_every_byte() -> None:
    first, second = tabular.score_rows(SCORES, reference_bytes=800)
    assert first == {
        "set": "score, svd",
        "protocol": "score",
        "student": "net",
        "ipc": 2,
        "seeds": 3,
        "accuracy": 50.25,
        "std": 1.15,  # of 50, 51.5 and 49.25, over n - 1
        "image_bytes": 1000,
        "label_bytes": 200,
        "fp16_label_bytes": 800,
        "teacher_bytes": 0,
        "total_bytes": 1200,
    }
    assert (second["accuracy"], second["std"], second["seeds"], second["total_bytes"]) == (0.33, 0.0, 1, 6000)


def test_metrics_are_the_rows_by_name() -> None:
    found = tabular.metrics(tabular.score_rows(SCORES, 800), {"main": {"minival": 61.23456, "test": 60.0}})
    assert found == {
        "scores": {
            "score, svd": {"accuracy": 50.25, "std": 1.15, "seeds": 3, "label_bytes": 200, "total_bytes": 1200},
            "score, teacher online": {"accuracy": 0.33, "std": 0.0, "seeds": 1, "label_bytes": 0, "total_bytes": 6000},
        },
        "teachers": {"main": {"minival": 61.23, "test": 60.0}},
    }


def test_sizes_have_the_average_of_each_seed_last() -> None:
    scores = [
        Score("mdc", "idc", "net", 3, (60.0, 61.0, 62.0), 10, 0),
        Score("mdc", "idc", "net", 1, (40.0, 43.0, 40.0), 10, 0),
    ]
    rows = tabular.size_rows("mdc", scores)
    assert rows == [
        {"entry": "mdc", "size": 1, "accuracy": 41.0, "std": 1.73, "seeds": 3},
        {"entry": "mdc", "size": 3, "accuracy": 61.0, "std": 1.0, "seeds": 3},
        {"entry": "mdc", "size": "average", "accuracy": 51.0, "std": 1.0, "seeds": 3},  # of 50, 52 and 51
    ]
    shown = tabular.metrics(tabular.score_rows(scores, 0), {}, rows)
    assert shown["average over sizes"] == {"mdc": {"accuracy": 51.0, "std": 1.0, "seeds": 3}}


def test_csv_reads_back(tmp_path: Path) -> None:
    rows = tabular.score_rows(SCORES, 800)
    path = tmp_path / "rows.csv"
    tabular.write_csv(path, rows)
    assert b"\r" not in path.read_bytes()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("set,protocol,student,ipc,") and len(lines) == 3
    with path.open(encoding="utf-8", newline="") as stream:
        assert list(csv.DictReader(stream)) == [{key: str(value) for key, value in row.items()} for row in rows]


def labels(n: int, k: int, c: int, seed: int = 0) -> SoftLabels:
    logits = np.random.default_rng(seed).normal(0, 3, (n, k, c)).astype(np.float16)
    return SoftLabels(logits, ViewPolicy(), np.arange(n), tuple(f"class {i}" for i in range(c)), ("main",))


@pytest.mark.parametrize(("n", "k", "c"), [(1, 4, 3), (40, 3, 5), (70, 6, 4)])
def test_spectra_are_numpys_singular_values(n: int, k: int, c: int) -> None:
    some = labels(n, k, c)
    values = [np.linalg.svd(image.astype(np.float64), compute_uv=False) for image in some.logits]
    relative = np.array([value / value[0] for value in values])
    rows = tabular.spectra(some)
    assert [row["component"] for row in rows] == list(range(1, min(k, c) + 1))
    for row, column in zip(rows, relative.T, strict=True):
        expected = [np.percentile(column, share) for share in (10, 50, 90)]
        np.testing.assert_allclose([row["p10"], row["median"], row["p90"]], expected, atol=1e-10)
    assert rows[0]["p10"] == rows[0]["p90"] == 1.0


def test_spectra_look_at_so_many_images_and_no_more() -> None:
    many = labels(tabular.SPECTRUM_IMAGES + 10, 2, 2)
    few = labels(tabular.SPECTRUM_IMAGES + 10, 2, 2)
    few.logits[tabular.SPECTRUM_IMAGES :] = 0
    assert tabular.spectra(many) == tabular.spectra(few)
    few.logits[tabular.SPECTRUM_IMAGES - 1] = 0
    assert tabular.spectra(many) != tabular.spectra(few)


def test_labels_of_rank_one_have_one_component_and_labels_of_zeros_none() -> None:
    some = labels(3, 4, 3)
    some.logits[:] = np.array([1.0, 2.0, -1.0])
    np.testing.assert_allclose([row["median"] for row in tabular.spectra(some)], [1, 0, 0], atol=1e-12)
    some.logits[:] = 0
    assert [row["p90"] for row in tabular.spectra(some)] == [0, 0, 0]


def test_ranks_hold_the_share_of_the_energy_that_is_asked() -> None:
    values = np.array([[1.0, 0.5, 0.1, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    assert tabular.ranks(values, 0.9).tolist() == [2, 4, 1]  # 1.25 of 1.26
    assert tabular.ranks(values, 0.75).tolist() == [1, 3, 1]


# --- pictures ---

GAP = 2


def colours(counts: list[int], side: int = 4) -> ImageSet:
    """Images of one colour each: (10 + class, 100 + place among its class, its row)."""
    rows = [(label, place) for place in range(max(counts)) for label in range(len(counts)) if place < counts[label]]
    pixels = np.zeros((len(rows), side, side, 3), dtype=np.uint8)
    for row, (label, place) in enumerate(rows):
        pixels[row] = (10 + label, 100 + place, row)
    names = tuple(f"class {i}" for i in range(len(counts)))
    return ImageSet(pixels, np.array([label for label, _ in rows]), np.arange(len(rows)) + 50, names)


def picture(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


@pytest.mark.parametrize("tile", [4, 7])
def test_a_grid_has_a_row_a_class_and_a_column_a_pick(tile: int) -> None:
    counts = [3, 1, 2]
    sheet = picture(pictures.grid(colours(counts), tile=tile))
    step = tile + GAP
    assert sheet.shape == (3 * step + GAP, 3 * step + GAP, 3)
    expected = np.full_like(sheet, 255)
    for label, count in enumerate(counts):
        for place in range(count):
            y, x = GAP + label * step, GAP + place * step
            row = [(la, p) for p in range(3) for la in range(3) if p < counts[la]].index((label, place))
            expected[y : y + tile, x : x + tile] = (10 + label, 100 + place, row)
    assert np.array_equal(sheet, expected)


def test_a_gallery_has_a_row_a_set_with_its_name_and_the_first_image_of_each_class() -> None:
    sets = {"one": colours([2, 1, 1]), "the other": colours([1, 2])}
    sheet = picture(pictures.gallery(sets, max_classes=2, tile=16))
    margin = 8 * len("the other")
    assert sheet.shape == (2 * 18 + GAP, margin + 2 * 18 + GAP, 3)
    for y in range(2):
        for label in range(2):
            tile = sheet[GAP + 18 * y : GAP + 18 * y + 16, margin + GAP + 18 * label : margin + GAP + 18 * label + 16]
            assert (tile[..., 0] == 10 + label).all() and (tile[..., 1] == 100).all()
    names = sheet[:, :margin]
    assert (names[:18] < 128).any() and (names[18:] < 128).any()  # something is written beside each row


def test_a_grid_shows_the_first_classes_and_the_first_picks() -> None:
    some = colours([5, 5, 5])
    sheet = picture(pictures.grid(some, max_classes=2, max_columns=3, tile=4))
    assert sheet.shape == (2 * 6 + GAP, 3 * 6 + GAP, 3)
    assert sheet[GAP, GAP, 1] == 100 and sheet[GAP, GAP + 2 * 6, 1] == 102 and sheet[GAP + 6, GAP, 0] == 11
    assert picture(pictures.grid(some)).shape == (3 * 66 + GAP, 5 * 66 + GAP, 3)


def test_tiles_are_enlarged_without_blurring() -> None:
    some = colours([1])
    some.images[0, :2] = 0
    sheet = picture(pictures.grid(some, tile=8))
    assert {tuple(colour) for colour in sheet[GAP:-GAP, GAP:-GAP].reshape(-1, 3)} == {(0, 0, 0), (10, 100, 0)}
    assert (sheet[GAP : GAP + 4, GAP:-GAP] == 0).all()


def test_the_same_images_have_the_same_picture() -> None:
    assert pictures.grid(colours([2, 1])) == pictures.grid(colours([2, 1]))
