"""Scores: checked when made, and frozen; mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from dcpipe.types import (
    DataError,
    Score,
)


def score(**change: Any) -> Score:
    given: dict[str, Any] = {"name": "all", "protocol": "score", "student": "net", "ipc": 1, "accuracy": (50.0,)}
    return Score(**{**given, "image_bytes": 10, "label_bytes": 20, **change})


@pytest.mark.parametrize("make", [score])
def test_it_is_frozen(make: Callable[[], Any]) -> None:
    made = make()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


REFUSED = [
    (score, {"accuracy": ()}, "score all: no seed was run"),
    (score, {"accuracy": (50.0, 101.0)}, "score all: accuracy 101.0 is not in 0..100 percent"),
    (score, {"accuracy": (float("nan"),)}, "score all: accuracy nan is not in 0..100 percent"),
]


@pytest.mark.parametrize(("make", "change", "sentence"), REFUSED, ids=[case[2][:50] for case in REFUSED])
def test_refusals(make: Any, change: dict[str, Any], sentence: str) -> None:
    make()  # valid before the change
    with pytest.raises(DataError) as error:
        make(**change)
    assert str(error.value) == sentence


def test_a_score_is_the_mean_and_sample_deviation_of_its_seeds() -> None:
    one = score(accuracy=(40.0, 50.0, 63.0), teacher_bytes=5)
    assert one.mean == 51.0
    assert one.std == pytest.approx(((11**2 + 1 + 12**2) / 2) ** 0.5)
    assert one.total_bytes == 35
    assert score().std == 0.0
