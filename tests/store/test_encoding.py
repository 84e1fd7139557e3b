"""Condensed images as PNG: the bytes of one image after the other, in threads, and each image encoded once."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import CLASSES
from PIL import Image

from dcpipe import store
from dcpipe.store import encoding
from dcpipe.types import DataError, EncodedImage, ImageSet


def some(n: int = 12) -> ImageSet:
    pixels = np.random.default_rng(n).integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)
    return ImageSet(pixels, np.arange(n) % 2, 100 + np.random.default_rng(0).permutation(n), CLASSES)


def by_hand(images: ImageSet) -> list[bytes]:
    found = []
    for image in images.images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        found.append(buffer.getvalue())
    return found


def picked(images: ImageSet, rows: list[int]) -> ImageSet:
    place = np.array(rows, dtype=np.int64)
    return replace(images, images=images.images[place], labels=images.labels[place], ids=images.ids[place])


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The images that were encoded."""
    seen: list[np.ndarray] = []
    encode = encoding.encode_png

    def watched(image: np.ndarray) -> bytes:
        seen.append(image)
        return encode(image)

    monkeypatch.setattr(encoding, "encode_png", watched)
    return seen


@pytest.mark.parametrize("threads", [1, 4])
def test_the_bytes_are_those_of_one_image_after_the_other(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_THREADS", threads)
    images = some(40)
    assert encoding.encode_all(images) == by_hand(images)


def test_several_are_encoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting, encode = threading.Barrier(3), encoding.encode_png

    def met(image: np.ndarray) -> bytes:
        meeting.wait(timeout=20)  # passes only if three threads are here
        return encode(image)

    monkeypatch.setattr(encoding, "_THREADS", 3)
    monkeypatch.setattr(encoding, "encode_png", met)
    assert encoding.encode_all(some(12)) == by_hand(some(12))


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.sets(st.integers(0, 11)), wanted=st.permutations(range(12)), n=st.integers(1, 12))
def test_what_a_file_holds_is_not_encoded_again(
    kept: set[int], wanted: list[int], n: int, tmp_path: Path, encoded: list[np.ndarray]
) -> None:
    images = some()
    if kept:
        store.save_set(tmp_path, picked(images, sorted(kept)))
    ours = picked(images, wanted[:n])
    encoded.clear()
    assert encoding.encode_all(ours, tmp_path / "images.parquet" if kept else None) == by_hand(ours)
    assert len(encoded) == len(set(wanted[:n]) - kept)


def test_other_pixels_under_the_same_id_are_encoded(tmp_path: Path, encoded: list[np.ndarray]) -> None:
    images = some()
    store.save_set(tmp_path, images)
    changed = images.images.copy()
    changed[3, 0, 0, 0] ^= 1
    for others in (replace(images, images=changed), replace(images, images=np.ascontiguousarray(changed[:, :4]))):
        encoded.clear()
        assert encoding.encode_all(others, tmp_path / "images.parquet") == by_hand(others)
        assert len(encoded) == (1 if others.images.shape == images.images.shape else 12)


def test_only_colour_png_is_taken(tmp_path: Path, encoded: list[np.ndarray]) -> None:
    grey = np.full((2, 8, 8, 3), 7, dtype=np.uint8)
    images = ImageSet(grey, np.array([0, 1]), np.array([4, 5]), CLASSES)
    rows = []
    for number, (kind, image) in enumerate(
        [("BMP", Image.fromarray(grey[0])), ("PNG", Image.fromarray(grey[0, ..., 0]))]
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        rows.append(EncodedImage(4 + number, buffer.getvalue(), "x", number))
    store.write_part(tmp_path / "other.parquet", rows, CLASSES)
    assert encoding.encode_all(images, tmp_path / "other.parquet") == by_hand(images)
    assert len(encoded) == 2


def test_a_file_that_is_no_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"images\.parquet cannot be read as Parquet \("):
        encoding.encode_all(some(), tmp_path / "images.parquet")


def test_a_set_is_the_same_file_whether_or_not_its_images_were_encoded(tmp_path: Path) -> None:
    images = some(300)  # more than one row group
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
    store.save_set(tmp_path / "first", images)
    store.save_set(tmp_path / "again", images, tmp_path / "first" / "images.parquet")
    assert (tmp_path / "again/images.parquet").read_bytes() == (tmp_path / "first/images.parquet").read_bytes()
