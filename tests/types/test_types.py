"""The nouns refuse what does not fit, each in one pinned sentence."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import types
from dcpipe.types import (
    DataError,
    Features,
    ImageSet,
    ImageTable,
    LabelPack,
    LabelShape,
    Score,
    Selection,
    SoftLabels,
    Teacher,
    ViewPolicy,
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


def teacher(**change: Any) -> Teacher:
    given: dict[str, Any] = {"network": "convnet-d1-w1", "weights": {"w": torch.zeros(2)}, "classes": CLASSES}
    return Teacher(**{**given, "mean": GREY, "std": GREY, "size": 8, "accuracy": {"minival": 50.0}, **change})


def features(**change: Any) -> Features:
    given: dict[str, Any] = {"vectors": np.zeros((3, 5)), "logits": np.zeros((3, 2)), "label_rate": np.zeros(3)}
    return Features(**{**given, "ids": IDS, "labels": LABELS, **change})


def selection(**change: Any) -> Selection:
    return Selection(**{"ids": IDS, "labels": LABELS, "gains": np.zeros(3), "method": "score", **change})


def soft_labels(**change: Any) -> SoftLabels:
    given: dict[str, Any] = {"logits": np.zeros((3, 5, 2), np.float16), "policy": ViewPolicy(), "ids": IDS}
    return SoftLabels(**{**given, "classes": CLASSES, "teachers": ("a",), **change})


def pack(**change: Any) -> LabelPack:
    given: dict[str, Any] = {"codec": "none", "settings": {}, "arrays": {}, "shape": LabelShape(3, 5, 2)}
    return LabelPack(**{**given, "policy": ViewPolicy(), "ids": IDS, **change})


def score(**change: Any) -> Score:
    given: dict[str, Any] = {"name": "all", "protocol": "score", "student": "net", "ipc": 1, "accuracy": (50.0,)}
    return Score(**{**given, "image_bytes": 10, "label_bytes": 20, **change})


MAKERS = [
    table,
    image_set,
    teacher,
    features,
    selection,
    soft_labels,
    pack,
    score,
    lambda: LabelShape(1, 1, 1),
    ViewPolicy,
]


@pytest.mark.parametrize("make", MAKERS)
def test_nouns_are_frozen(make: Any) -> None:
    noun = make()
    with pytest.raises(FrozenInstanceError):
        setattr(noun, fields(noun)[0].name, None)


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
    (image_set, {"ids": np.array([4, 9, 4])}, "image set: ids repeat; views are keyed by distinct ids"),
    (image_set, {"grid": 0}, "image set: grid must be at least 1, got 0"),
    (
        teacher,
        {"weights": {"w": torch.tensor([1.0, float("inf")])}},
        "teacher convnet-d1-w1: weight 'w' holds NaN or infinity; train it again",
    ),
    (features, {"vectors": np.zeros((2, 5))}, "features: vectors has 2 rows, ids have 3"),
    (features, {"logits": np.zeros((4, 5))}, "features: logits has 4 rows, ids have 3"),
    (features, {"label_rate": np.zeros(1)}, "features: label_rate has 1 rows, ids have 3"),
    (features, {"labels": LABELS[:1]}, "features: labels has 1 rows, ids have 3"),
    (features, {"label_rate": np.array([0, np.nan, 0])}, "features: label_rate holds NaN; extract them again"),
    (selection, {"ids": np.array([4, 4, 7])}, "selection score: an image is picked twice"),
    (selection, {"gains": np.zeros(2)}, "selection score: ids, labels and gains differ in length"),
    (
        soft_labels,
        {"logits": np.zeros((3, 5, 3), np.float16)},
        "soft labels: logits [3, 5, 3] do not fit 3 ids and 2 classes",
    ),
    (
        soft_labels,
        {"logits": np.zeros((3, 2), np.float16)},
        "soft labels: logits [3, 2] do not fit 3 ids and 2 classes",
    ),
    (
        soft_labels,
        {"logits": np.zeros((3, 5, 2), np.float32)},
        "soft labels: logits must be fp16, got float32",
    ),
    (pack, {"ids": IDS[:2]}, "label pack: 2 ids for 3 images"),
    (score, {"accuracy": ()}, "score all: no seed was run"),
    (score, {"accuracy": (50.0, 101.0)}, "score all: accuracy 101.0 is not in 0..100 percent"),
    (score, {"accuracy": (float("nan"),)}, "score all: accuracy nan is not in 0..100 percent"),
    (ViewPolicy, {"scale_min": 0.0}, "views: need 0 < scale_min <= scale_max <= 1, got 0.0 and 1.0"),
    (
        ViewPolicy,
        {"scale_min": 0.9, "scale_max": 0.5},
        "views: need 0 < scale_min <= scale_max <= 1, got 0.9 and 0.5",
    ),
    (ViewPolicy, {"scale_max": 1.5}, "views: need 0 < scale_min <= scale_max <= 1, got 0.08 and 1.5"),
    (ViewPolicy, {"flip": 1.5}, "views: flip is a probability in 0..1, got 1.5"),
    (
        ViewPolicy,
        {"ratio_min": 2.0, "ratio_max": 1.0},
        "views: need 0 < ratio_min <= ratio_max, got 2.0 and 1.0",
    ),
    (ViewPolicy, {"ratio_min": 0.0}, f"views: need 0 < ratio_min <= ratio_max, got 0.0 and {4 / 3}"),
    (
        ViewPolicy,
        {"mix": "mixup"},
        "views: unknown mix 'mixup'; choose one of none, cutmix_images, cutmix_labels",
    ),
]


@pytest.mark.parametrize(("make", "change", "sentence"), REFUSED, ids=[case[2][:50] for case in REFUSED])
def test_refusals(make: Any, change: dict[str, Any], sentence: str) -> None:
    make()  # legal before the change
    with pytest.raises(DataError) as error:
        make(**change)
    assert str(error.value) == sentence


def test_class_lists_must_agree_in_order() -> None:
    types.check_same_classes(CLASSES, list(CLASSES), "teacher and images")
    with pytest.raises(DataError) as error:
        types.check_same_classes(("cat", "dog"), ("dog", "cat"), "teacher and images")
    assert str(error.value) == (
        "teacher and images: class 0 is 'cat' on one side and 'dog' on the other; use one class order"
    )
    for first, second in ((("cat",), CLASSES), (CLASSES, ("cat",))):
        with pytest.raises(DataError) as error:
            types.check_same_classes(first, second, "x")
        assert str(error.value) == (
            f"x: {len(first)} classes on one side and {len(second)} on the other; use one class list"
        )


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 2**20), data=st.data())
def test_a_prefix_is_the_first_rows_of_every_class(sizes: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)
    n = len(labels)
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))
    whole = ImageSet(images, labels, np.arange(n) + 50, tuple(map(str, range(len(sizes)))), grid=2)
    ipc = data.draw(st.integers(1, min(sizes)))
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


@pytest.mark.parametrize("ipc", [0, 2])
def test_a_prefix_larger_than_the_smallest_class_is_refused(ipc: int) -> None:
    with pytest.raises(DataError) as error:
        image_set().prefix(ipc)  # classes hold 2 and 1 images
    assert str(error.value) == f"ipc {ipc} is outside 1..1, what this set holds for every class"


def test_labels_mixed_later_are_made_of_clean_views() -> None:
    assert ViewPolicy(mix="cutmix_labels", seed=4).labelling == ViewPolicy(mix="none", seed=4)
    assert ViewPolicy(mix="cutmix_images").labelling == ViewPolicy(mix="cutmix_images")


def test_a_score_is_the_mean_and_sample_deviation_of_its_seeds() -> None:
    one = score(accuracy=(40.0, 50.0, 63.0), teacher_bytes=5)
    assert one.mean == 51.0
    assert one.std == pytest.approx(((11**2 + 1 + 12**2) / 2) ** 0.5)
    assert one.total_bytes == 35
    assert score().std == 0.0


def test_the_reference_counts_two_bytes_an_entry() -> None:
    assert LabelShape(10, 300, 1000).reference_bytes == 2 * 10 * 300 * 1000
