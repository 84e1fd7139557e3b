"""Candidates refuse what no selector could use, before any work, and name the class and the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dcpipe.selection import Candidates, Picks, Progress, class_by_class, unit
from dcpipe.types import DataError

GOOD = Candidates(
    np.arange(1, 11, dtype=np.float32).reshape(5, 2),
    np.zeros((5, 2), dtype=np.float32),
    np.zeros(5),
    np.array([0, 3, 5]),
    ("cat", "dog"),
)


def refused(candidates: Candidates, ipc: int = 2) -> str:
    with pytest.raises(DataError) as error:
        candidates.check(ipc)
    return str(error.value)


def broken(name: str, row: int, value: float) -> Candidates:
    array = np.asarray(getattr(GOOD, name)).copy()
    array[row] = value
    return replace(GOOD, **{name: array})


def test_sound_candidates_pass() -> None:
    GOOD.check(2)
    GOOD.check(1)


def test_a_class_that_is_too_small_is_named() -> None:
    assert refused(GOOD, 3) == "selection.ipc is 3 but class 'dog' has 2 images; use ipc <= 2"
    assert refused(replace(GOOD, classes=()), 3) == "selection.ipc is 3 but class '1' has 2 images; use ipc <= 2"


def test_arrays_of_different_length_are_refused() -> None:
    assert refused(replace(GOOD, logits=np.zeros((4, 2)))) == (
        "candidates: logits has 4 rows, labels have 5; extract the features again"
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "vectors",
            np.nan,
            "candidates: the vector holds NaN or infinity in 1 of 2 images of class 'dog', first in image 1; "
            "check the teacher",
        ),
        (
            "logits",
            np.inf,
            "candidates: the logits hold NaN or infinity in 1 of 2 images of class 'dog', first in image 1; "
            "check the teacher",
        ),
        (
            "vectors",
            0.0,
            "candidates: the vector is all zero in 1 of 2 images of class 'dog', first in image 1; "
            "train the teacher longer, or another one",
        ),
    ],
)
def test_broken_features_are_refused(name: str, value: float, sentence: str) -> None:
    assert refused(broken(name, 4, value)) == sentence


def test_zeros_in_logits_are_fine() -> None:
    broken("logits", 4, 0.0).check(2)


def test_class_views() -> None:
    assert GOOD.class_vectors(1).tolist() == [[7, 8], [9, 10]] and GOOD.class_vectors(1).dtype == np.float64
    np.testing.assert_allclose((GOOD.class_units(0) ** 2).sum(axis=1), 1)
    assert unit(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 0], [0.6, 0.8]]
    high = replace(GOOD, logits=np.array([[1000.0, 1000.0]] * 5, dtype=np.float32))
    assert high.class_probabilities(0).tolist() == [[0.5, 0.5]] * 3


def test_class_by_class_goes_in_rounds_and_tells_its_progress() -> None:
    told: list[tuple[int, int]] = []
    picks = class_by_class(
        GOOD,
        2,
        Progress(progress=lambda done, total: told.append((done, total))),
        lambda label: (np.array([1, 0]), np.array([label + 0.5, label])),
    )
    assert isinstance(picks, Picks)
    assert picks.rows.tolist() == [1, 4, 0, 3] and picks.gains.tolist() == [0.5, 1.5, 0.0, 1.0]
    assert told == [(2, 4), (4, 4)]
