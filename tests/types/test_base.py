"""The checks that data types share: of labels and class lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpipe import types
from dcpipe.types import DataError, find_rows

CLASSES = ("cat", "dog")


def test_require_raises_its_sentence() -> None:
    types.require(True, "never")
    with pytest.raises(DataError) as error:
        types.require(False, "a cup is empty; fill it")
    assert str(error.value) == "a cup is empty; fill it" and isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    ("labels", "classes", "sentence"),
    [
        (np.array([0]), ("cat", "cat"), "x: class names repeat; make them distinct"),
        (np.array([[0, 1]]), CLASSES, "x: labels must be i64 [n], got int64"),
        (np.array([0, 1], np.int32), CLASSES, "x: labels must be i64 [n], got int32"),
        (np.array([0, 2]), CLASSES, "x: labels span 0..2 but there are 2 classes; check the class list"),
        (np.array([1, -1]), CLASSES, "x: labels span -1..1 but there are 2 classes; check the class list"),
    ],
)
def test_labels_must_name_classes(labels: np.ndarray, classes: tuple[str, ...], sentence: str) -> None:
    types.check_labels(np.array([0, 1, 1]), CLASSES, "x")
    types.check_labels(np.zeros(0, dtype=np.int64), CLASSES, "x")
    with pytest.raises(DataError) as error:
        types.check_labels(labels, classes, "x")
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


@given(
    ids=st.lists(st.integers(-5, 60), min_size=1, max_size=20, unique=True), data=st.data(), absent=st.integers(-9, 70)
)
def test_rows_are_found_in_the_requested_order(ids: list[int], data: st.DataObject, absent: int) -> None:
    wanted = data.draw(st.lists(st.sampled_from(ids), max_size=30))
    rows = find_rows(np.array(ids), np.array(wanted, dtype=np.int64), "is not here; look elsewhere")
    assert rows.tolist() == [ids.index(number) for number in wanted]
    if absent not in ids:
        with pytest.raises(DataError) as error:
            find_rows(np.array(ids), np.array([*wanted, absent, *wanted]), "is not here; look elsewhere")
        assert str(error.value) == f"image {absent} is not here; look elsewhere"
