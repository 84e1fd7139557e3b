"""Grids and galleries: every tile at its place, pixel by pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dcpipe.reports import pictures
from dcpipe.types import ImageSet

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
def test_a_grid_has_one_row_per_class_and_one_column_per_pick(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "TILE", tile)
    counts = [3, 1, 2]
    sheet = picture(pictures.grid(colours(counts)))
    step = tile + GAP
    assert sheet.shape == (3 * step + GAP, 3 * step + GAP, 3)
    expected = np.full_like(sheet, 255)
    for label, count in enumerate(counts):
        for place in range(count):
            y, x = GAP + label * step, GAP + place * step
            row = [(la, p) for p in range(3) for la in range(3) if p < counts[la]].index((label, place))
            expected[y : y + tile, x : x + tile] = (10 + label, 100 + place, row)
    assert np.array_equal(sheet, expected)


def test_a_grid_shows_the_first_classes_and_the_first_picks() -> None:
    some = colours([5, 5, 5])
    sheet = picture(pictures.grid(some, max_classes=2, max_columns=3))
    assert sheet.shape == (2 * 66 + GAP, 3 * 66 + GAP, 3)
    assert sheet[GAP, GAP, 1] == 100 and sheet[GAP, GAP + 2 * 66, 1] == 102 and sheet[GAP + 66, GAP, 0] == 11
    assert picture(pictures.grid(some)).shape == (3 * 66 + GAP, 5 * 66 + GAP, 3)


def test_tiles_are_enlarged_without_blurring() -> None:
    some = colours([1])
    some.images[0, :2] = 0
    sheet = picture(pictures.grid(some))
    assert {tuple(colour) for colour in sheet[GAP:-GAP, GAP:-GAP].reshape(-1, 3)} == {(0, 0, 0), (10, 100, 0)}
    assert (sheet[GAP : GAP + 32, GAP:-GAP] == 0).all()


def test_the_same_images_have_the_same_picture() -> None:
    assert pictures.grid(colours([2, 1])) == pictures.grid(colours([2, 1]))


def test_a_gallery_has_a_row_a_set_with_its_name_and_the_first_image_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pictures, "TILE", 16)
    monkeypatch.setattr(pictures, "GALLERY_CLASSES", 2)
    sets = {"one": colours([2, 1, 1]), "the other": colours([1, 2])}
    sheet = picture(pictures.gallery(sets))
    margin = 8 * len("the other")
    assert sheet.shape == (2 * 18 + GAP, margin + 2 * 18 + GAP, 3)
    for y in range(2):
        for label in range(2):
            tile = sheet[GAP + 18 * y : GAP + 18 * y + 16, margin + GAP + 18 * label : margin + GAP + 18 * label + 16]
            assert (tile[..., 0] == 10 + label).all() and (tile[..., 1] == 100).all()
    names = sheet[:, :margin]
    assert (names[:18] < 128).any() and (names[18:] < 128).any()  # something is written beside each row


def test_a_gallery_of_nothing_is_a_picture_too() -> None:
    """A study that has no set yet shows an empty sheet, not an error."""
    assert picture(pictures.gallery({})).shape == (GAP, GAP, 3)


def test_galleries_of_the_same_sets_are_the_same_bytes() -> None:
    first, again = (pictures.gallery({"one": colours([2, 1]), "two": colours([1, 1])}) for _ in range(2))
    assert first == again
