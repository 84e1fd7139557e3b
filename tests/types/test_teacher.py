"""Teachers and features: checked when made, and frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
import torch

from dcpipe.types import (
    DataError,
    Features,
    Teacher,
)

CLASSES = ("cat", "dog")
IDS, LABELS = np.array([4, 9, 7]), np.array([0, 1, 0])
GREY = (0.5, 0.5, 0.5)


def teacher(**change: Any) -> Teacher:
    given: dict[str, Any] = {"network": "convnet-d1-w1", "weights": {"w": torch.zeros(2)}, "classes": CLASSES}
    return Teacher(**{**given, "mean": GREY, "std": GREY, "size": 8, "accuracy": {"minival": 50.0}, **change})


def features(**change: Any) -> Features:
    given: dict[str, Any] = {"vectors": np.zeros((3, 5)), "logits": np.zeros((3, 2)), "label_rate": np.zeros(3)}
    return Features(**{**given, "ids": IDS, "labels": LABELS, **change})


@pytest.mark.parametrize("make", [teacher, features])
def test_it_is_frozen(make: Callable[[], Any]) -> None:
    made = make()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


REFUSED = [
    (
        teacher,
        {"weights": {"w": torch.tensor([1.0, float("inf")])}},
        "teacher convnet-d1-w1: weight 'w' contains NaN or infinity; train it again",
    ),
    (features, {"vectors": np.zeros((2, 5))}, "features: vectors has 2 rows, ids have 3"),
    (features, {"logits": np.zeros((4, 5))}, "features: logits has 4 rows, ids have 3"),
    (features, {"label_rate": np.zeros(1)}, "features: label_rate has 1 rows, ids have 3"),
    (features, {"labels": LABELS[:1]}, "features: labels has 1 rows, ids have 3"),
    (features, {"label_rate": np.array([0, np.nan, 0])}, "features: label_rate contains NaN; extract them again"),
]


@pytest.mark.parametrize(("make", "change", "sentence"), REFUSED, ids=[case[2][:50] for case in REFUSED])
def test_refusals(make: Any, change: dict[str, Any], sentence: str) -> None:
    make()  # valid before the change
    with pytest.raises(DataError) as error:
        make(**change)
    assert str(error.value) == sentence


def test_rows_of_features_are_those_of_their_ids() -> None:
    assert features().rows_of(np.array([7, 4])).tolist() == [2, 0]
    with pytest.raises(DataError) as error:
        features().rows_of(np.array([5]))
    assert str(error.value) == "image 5 has no features; run `dvc repro features` to extract them again"


@pytest.mark.parametrize(("rank", "share"), [([0, 1, 2], 1 / 3), ([3, 1, 2], 2 / 3), ([0, 0, -1], 0.0)])
def test_the_lower_half_of_a_shortlist_is_counted(rank: list[int], share: float) -> None:
    """Of shortlists of three, place 2 is the lower half; of four, places 2 and 3."""
    assert features(rank=np.array(rank)).lower_half(IDS) == pytest.approx(share)
    assert features().lower_half(IDS) is None, "there is no shortlist"


def test_the_network_sees_images_at_their_own_size_unless_they_are_resized() -> None:
    assert teacher().input_size is None and teacher().network_size == 8
    assert teacher(input_size=32).network_size == 32 and teacher(input_size=32).size == 8


def test_each_is_told_in_a_line() -> None:
    assert repr(teacher()) == "<Teacher: convnet-d1-w1, 2 classes, images of 8 pixels; minival 50>"
    assert repr(features()) == "<Features: vectors of 5 numbers of 3 images>"
