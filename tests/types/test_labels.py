"""Policies of views, stored views, soft labels and packs: checked when made, and frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from view_cases import stored_views

from dcpipe.types import (
    DataError,
    LabelPack,
    LabelShape,
    SoftLabels,
    StoredViews,
    ViewPolicy,
    check_logits,
    reference_bytes,
)

CLASSES = ("cat", "dog")
IDS = np.array([4, 9, 7])


def soft_labels(**change: Any) -> SoftLabels:
    given: dict[str, Any] = {"logits": np.zeros((3, 5, 2), np.float16), "policy": ViewPolicy(), "ids": IDS}
    return SoftLabels(**{**given, "classes": CLASSES, "teachers": ("a",), **change})


def pack(**change: Any) -> LabelPack:
    given: dict[str, Any] = {"codec": "none", "settings": {}, "arrays": {}, "shape": LabelShape(3, 5, 2)}
    return LabelPack(**{**given, "policy": ViewPolicy(), "ids": IDS, **change})


@pytest.mark.parametrize("make", [ViewPolicy, soft_labels, pack, stored_views, lambda: LabelShape(1, 1, 1)])
def test_it_is_frozen(make: Callable[[], Any]) -> None:
    made = make()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


REFUSED = [
    (ViewPolicy, {"scale_min": 0.0}, "views: need 0 < scale_min <= scale_max <= 1, got 0.0 and 1.0"),
    (
        ViewPolicy,
        {"scale_min": 0.9, "scale_max": 0.5},
        "views: need 0 < scale_min <= scale_max <= 1, got 0.9 and 0.5",
    ),
    (ViewPolicy, {"scale_max": 1.5}, "views: need 0 < scale_min <= scale_max <= 1, got 0.08 and 1.5"),
    (ViewPolicy, {"seed": "x"}, "views: seed must be a whole number, got 'x'"),
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
]


@pytest.mark.parametrize(("make", "change", "sentence"), REFUSED, ids=[case[2][:50] for case in REFUSED])
def test_refusals(make: Any, change: dict[str, Any], sentence: str) -> None:
    make()  # valid before the change
    with pytest.raises(DataError) as error:
        make(**change)
    assert str(error.value) == sentence


def test_labels_that_are_mixed_later_are_of_unmixed_views() -> None:
    assert ViewPolicy(mix="cutmix_labels", seed=4).labelling == ViewPolicy(mix="none", seed=4)
    assert ViewPolicy(mix="cutmix_images").labelling == ViewPolicy(mix="cutmix_images")


def test_the_reference_counts_two_bytes_per_entry() -> None:
    assert LabelShape(10, 300, 1000).reference_bytes == 2 * 10 * 300 * 1000


def test_the_reference_of_a_smaller_set() -> None:
    shape = {"images": 40, "views": 5, "classes": 2}
    assert reference_bytes(None, 3) == 0
    assert [reference_bytes(shape, ipc) for ipc in (1, 7, 20)] == [2 * 2 * ipc * 5 * 2 for ipc in (1, 7, 20)]
    assert reference_bytes(shape, 2, grid=2) == 2 * 2 * 2 * 4 * 5 * 2
    uneven = {**shape, "images": 14}
    assert [reference_bytes(uneven, ipc, per_class=[10, 4]) for ipc in (1, 4, 6, 10)] == [
        2 * n * 5 * 2 for n in (2, 8, 10, 14)
    ]


def test_stored_views_are_checked() -> None:
    stored = stored_views()
    for name, value, sentence in (
        ("partner", 4, "stored views: a partner is outside 0..3; import the labels again"),
        ("mix_box", 9, "stored views: a pasted box leaves the view of 8 pixels; import the labels again"),
        ("box", np.nan, "stored views: box leaves the image; import the labels again"),
        ("partner_box", 0.9, "stored views: partner_box leaves the image; import the labels again"),
    ):
        changed = stored.arrays[name].copy()
        changed[1] = value
        with pytest.raises(DataError) as error:
            StoredViews(stored.mix, stored.size, {**stored.arrays, name: changed})
        assert str(error.value) == sentence
    with pytest.raises(
        DataError, match=r"^stored views: expected arrays \{.*\}, found \{.*\}; import the labels again$"
    ):
        StoredViews("none", 8, stored.arrays)
    clean = stored_views(mix="none")
    assert clean.select(np.array([3, 1])).arrays["flip"].tolist() == clean.arrays["flip"][[3, 1]].tolist()
    assert stored.labelling is stored and stored.n_bytes == 4 * 3 * 46


def test_logits_that_fp16_cannot_store_are_refused_in_any_float_type() -> None:
    logits = np.zeros((3, 5, 2))
    logits[0, 0, 0], logits[2, 4, 1] = 65504, -65504
    check_logits(logits, IDS, np.arange(3))
    check_logits(logits[:0], IDS[:0], np.arange(0))
    logits[2, 4, 1] = -65520
    with pytest.raises(
        DataError, match=r"^soft labels of image 7 \(row 12\) contain NaN, infinity .* in view 4; check"
    ):
        check_logits(logits.astype(np.float32), IDS, np.arange(10, 13))


def test_each_is_told_in_a_line() -> None:
    assert repr(soft_labels()) == "<SoftLabels: 3 images x 5 views x 2 classes, by a>"
    assert repr(pack(n_bytes=12345)) == ("<LabelPack of codec none: 3 images x 5 views x 2 classes, 12,345 bytes>")
