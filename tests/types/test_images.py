"""Images on disk, images in memory, and selections: checked when they are made, frozen, reduced to a prefix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.types import (
    DataError,
    ImageSet,
    ImageTable,
    Selection,
)

CLASSES = ("cat", "dog")
IDS, LABELS = np.array([4, 9, 7]), np.array([0, 1, 0])
GREY = (0.5, 0.5, 0.5)


def table(**change: Any) -> ImageTable:
    given: dict[str, Any] = {"parts": (Path("a"), Path("b")), "part_rows": 2, "ids": IDS, "labels": LABELS}
    return ImageTable(**{**given, "classes": CLASSES, "size": 8, "mean": GREY, "std": GREY, **change})


def image_set(**change: Any) -> ImageSet:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    return ImageSet(**{"images": images, "labels": LABELS, "ids": IDS, "classes": CLASSES, **change})


def selection(**change: Any) -> Selection:
    return Selection(**{"ids": IDS, "labels": LABELS, "gains": np.zeros(3), "method": "score", **change})


@pytest.mark.parametrize("make", [table, image_set, selection])
def test_it_is_frozen(make: Callable[[], Any]) -> None:
    made = make()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


REFUSED = [
    (table, {"ids": IDS[:2]}, "image table: ids and labels differ in length"),
    (table, {"parts": (Path("a"),)}, "image table: 1 parts found, 2 expected"),
    (table, {"classes": ("cat", "cat")}, "image table: class names repeat; make them distinct"),
    (table, {"labels": LABELS.astype(np.int32)}, "image table: labels must be i64 [n], got int32"),
    (
        table,
        {"labels": np.array([0, 1, 2])},
        "image table: labels span 0..2 but there are 2 classes; check the class list",
    ),
    (
        table,
        {"labels": np.array([-1, 1, 1])},
        "image table: labels span -1..1 but there are 2 classes; check the class list",
    ),
    (
        image_set,
        {"images": np.zeros((3, 4, 4, 3), np.float32)},
        "image set: images must be u8 [n, h, w, 3], got float32 [3, 4, 4, 3]",
    ),
    (
        image_set,
        {"images": np.zeros((3, 4, 4), np.uint8)},
        "image set: images must be u8 [n, h, w, 3], got uint8 [3, 4, 4]",
    ),
    (image_set, {"ids": IDS[:2]}, "image set: 3 images, 3 labels, 2 ids"),
    (image_set, {"ids": np.array([4, 9, 4])}, "image set: ids repeat; make them distinct"),
    (image_set, {"grid": 0}, "image set: grid must be at least 1, got 0"),
    (image_set, {"grid": 5}, "image set: grid must be at most 4, the side of the images, got 5"),
    (image_set, {"by": "rows"}, "image set: by is 'rows'; choose one of images, cells"),
    (selection, {"ids": np.array([4, 4, 7])}, "selection score: an image is picked twice"),
    (selection, {"gains": np.zeros(2)}, "selection score: ids, labels and gains differ in length"),
]


@pytest.mark.parametrize(("make", "change", "sentence"), REFUSED, ids=[case[2][:50] for case in REFUSED])
def test_refusals(make: Any, change: dict[str, Any], sentence: str) -> None:
    make()  # valid before the change
    with pytest.raises(DataError) as error:
        make(**change)
    assert str(error.value) == sentence


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 2**20), data=st.data())
def test_a_prefix_is_the_first_rows_of_every_class(sizes: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)
    n = len(labels)
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))
    whole = ImageSet(images, labels, np.arange(n) + 50, tuple(map(str, range(len(sizes)))), grid=2)
    ipc = data.draw(st.integers(1, max(sizes)))
    rows = sorted(row for c in range(len(sizes)) for row in np.flatnonzero(labels == c)[:ipc])
    part = whole.prefix(ipc)
    assert part.ids.tolist() == [row + 50 for row in rows]
    assert part.images[:, 0, 0, 0].tolist() == rows
    assert part.labels.tolist() == labels[rows].tolist()
    assert (part.classes, part.grid) == (whole.classes, whole.grid)


def test_decoded_images_have_ids_and_labels_of_their_own() -> None:
    whole = image_set(grid=2)
    assert whole.decoded_ids.tolist() == [16, 17, 18, 19, 36, 37, 38, 39, 28, 29, 30, 31]  # ids 4, 9, 7
    assert whole.decoded_labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    assert whole.ranks.tolist() == [0, 0, 1]
    plain = image_set()
    assert plain.decoded_ids.tolist() == IDS.tolist() and plain.decoded_labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("ipc", [0, 3])
def test_a_prefix_larger_than_the_largest_class_is_refused(ipc: int) -> None:
    whole = image_set()
    assert whole.per_class.tolist() == [2, 1] and whole.most_per_class == 2
    with pytest.raises(DataError) as error:
        whole.prefix(ipc)
    assert str(error.value) == f"ipc is {ipc}, but this set has up to 2 images per class; choose 1..2"
    assert whole.prefix(2).ids.tolist() == whole.ids.tolist(), "a smaller class gives all that it has"
    with pytest.raises(DataError, match=r"^ipc is 2, but this set has 1 images per class; choose 1\.\.1$"):
        whole.prefix(1).prefix(2)


def test_rows_of_a_table_are_those_of_its_ids() -> None:
    assert table().rows_of(np.array([7, 4, 7])).tolist() == [2, 0, 2]
    assert table().decoded_bytes == 3 * 8 * 8 * 3
    with pytest.raises(DataError) as error:
        table().rows_of(np.array([7, 5]))
    assert str(error.value) == "image 5 is not in this table of images; run `dvc repro` to pick from it again"


def test_each_is_told_in_a_line() -> None:
    assert repr(table()) == "<ImageTable: 3 images of 2 classes, read at 8x8>"
    assert repr(image_set()) == "<ImageSet: 3 images of 4x4, 2 classes>"
    assert repr(image_set(grid=2)) == "<ImageSet: 3 images of 4x4, each a grid of 2x2, 2 classes>"
    assert repr(selection()) == "<Selection by score: 3 images>"
