"""Test images by their pixels: one digest however they are stored, and sets that have some of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_tables import write_table
from releases import CLASSES, SIZE

from dcpipe.judging.tested import digest, hashes_of, leaked, remarks
from dcpipe.types import DataError, ImageSet, ImageTable

LABELS = np.repeat(np.arange(3), 4)


def pixels(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, size, size, 3), dtype=np.uint8)


def table(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray = LABELS,
    classes: tuple[str, ...] = CLASSES,
    ids: np.ndarray | None = None,
) -> ImageTable:
    folder.mkdir()
    ids = np.arange(12, dtype=np.int64) if ids is None else ids
    return write_table(folder, images, labels.astype(np.int64), ids, 5, classes)


def a_set(images: np.ndarray, labels: np.ndarray | None = None) -> ImageSet:
    n = len(images)
    labels = np.arange(n) % 3 if labels is None else labels
    return ImageSet(images, labels.astype(np.int64), np.arange(n, dtype=np.int64), CLASSES)


def digest_of(test: ImageTable, folder: Path) -> str:
    return digest(test, hashes_of(test, folder))


def test_the_digest_is_of_pixels_and_classes_and_of_nothing_else(tmp_path: Path) -> None:
    images, order = pixels(0), np.random.default_rng(1).permutation(12)
    expected = digest_of(table(tmp_path / "a", images), tmp_path)
    shuffled = table(tmp_path / "b", images[order], LABELS[order], ids=np.arange(50, 62, dtype=np.int64))
    assert digest_of(shuffled, tmp_path) == expected
    renamed = table(tmp_path / "c", images, 2 - LABELS, ("white shark", "goldfish", "tench"))
    assert digest_of(renamed, tmp_path) == expected, "the same images in another class order"
    other, moved = images.copy(), LABELS.copy()
    other[0, 0, 0, 0] ^= 1
    moved[[0, 11]] = moved[[11, 0]]
    assert digest_of(table(tmp_path / "d", other), tmp_path) != expected
    assert digest_of(table(tmp_path / "e", images, moved), tmp_path) != expected


def test_a_set_with_a_test_image_is_refused(tmp_path: Path) -> None:
    test, train = table(tmp_path / "test", pixels(0)), table(tmp_path / "train", pixels(1))
    assert leaked(a_set(pixels(1)), test, [train], hashes_of(test, tmp_path)) == ""
    with pytest.raises(DataError) as error:
        leaked(a_set(np.concatenate([pixels(1), pixels(0)[7:9]])), test, [train], hashes_of(test, tmp_path))
    assert str(error.value) == (
        "2 of 14 images of the set (14.29 %) are test images, pixel by pixel, and no train images, for example image "
        "12 is test image 7, so accuracy measures memory; judge the set with the split that it was made without "
        "(--data), or take these images out of it"
    )


def test_an_image_of_both_splits_is_told(tmp_path: Path) -> None:
    """Sources have such images, up to `images.max_leakage`, and a set made from train may have them."""
    both = pixels(1)
    both[3] = pixels(0)[7]
    test, train = table(tmp_path / "test", pixels(0)), table(tmp_path / "train", both)
    assert leaked(a_set(both), test, [train], hashes_of(test, tmp_path)) == (
        "1 of 12 images of the set (8.33 %) are test images, pixel by pixel, which are train images too"
    )


def test_a_set_of_another_size_is_compared_at_its_own(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 16, 16, 3)).copy()
    test = table(tmp_path / "test", flat[:, :SIZE, :SIZE])
    with pytest.raises(DataError, match="image 0 is test image 2"):
        leaked(a_set(flat[2:3], np.zeros(1)), test, [], hashes_of(test, tmp_path))


def test_what_a_reader_has_to_know_is_told(tmp_path: Path) -> None:
    test, both = table(tmp_path / "test", pixels(0)), table(tmp_path / "train", pixels(0))
    assert list(remarks(a_set(pixels(1)), test, [both], hashes_of(test, tmp_path))) == []
    [found] = remarks(a_set(pixels(0)), test, [both], hashes_of(test, tmp_path))
    assert found == (
        "12 of 12 images of the set (100.00 %) are test images, pixel by pixel, which are train images too: accuracy "
        "on them measures memory."
    )
    [found] = remarks(a_set(pixels(1, 2 * SIZE)), test, [both], hashes_of(test, tmp_path))
    assert found.startswith(
        "The set is stored at 16 x 16 pixels. Its views are resized to 8 x 8, at which students see"
    )
