"""Arguments of calls from Python: every kind of array becomes NumPy's, and nothing is rounded or guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dcpipe.types import DataError
from dcpipe.types.arguments import as_array, as_ids, as_numbers, as_whole

ROWS = [[1.0, 2.0], [0.0, -4.0]]
SAME: list[Any] = [
    ROWS,
    tuple(map(tuple, ROWS)),
    np.array(ROWS, np.float16),
    np.array(ROWS, np.int8),
    torch.tensor(ROWS, requires_grad=True),
    torch.tensor(ROWS).bfloat16(),
    torch.tensor(ROWS).to_sparse(),
    torch.tensor(ROWS).int(),
]


@pytest.mark.parametrize("values", SAME, ids=lambda values: type(values).__name__)
def test_every_kind_of_array_is_read(values: Any) -> None:
    array = as_numbers(values, "vectors", np.float32)
    assert array.dtype == np.float32 and array.tolist() == ROWS


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (torch.empty(2, device="meta"), "x is a tensor on the device 'meta', which has no values; give them"),
        ([[1], [1, 2]], "x cannot be read as an array ("),
        (np.ones(2) * 1j, "x must be real numbers, but are complex128; convert them"),
        (["1", "2"], "x must be real numbers, but are <U1; convert them"),
        ([1, None], "x must be real numbers, but are object; convert them"),
        (None, "x must be real numbers, but are NoneType; convert them"),
        ("abc", "x must be real numbers, but are str; convert them"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(values: Any, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        as_numbers(values, "x", np.float32)
    assert str(error.value).startswith(sentence)


def test_texts_are_an_array_but_no_numbers() -> None:
    assert as_array(["a", "b"], "labels").tolist() == ["a", "b"]


def test_what_is_too_large_for_the_dtype_becomes_infinite_without_a_warning() -> None:
    assert as_numbers([1e6, -1e300], "x", np.float16).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("values", [[3, -1], np.array([3, -1], np.int8), torch.tensor([3, -1])])
def test_ids_are_whole_numbers(values: Any) -> None:
    ids = as_ids(values, "ids", 2)
    assert ids.dtype == np.int64 and ids.tolist() == [3, -1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0.0, 1.5], "ids must be 2 whole numbers, one for each image, but are float64 [2]"),
        ([0], "ids must be 2 whole numbers, one for each image, but are int64 [1]"),
        ([True, False], "ids must be 2 whole numbers, one for each image, but are bool [2]"),
        ([4, 4], "ids must be distinct and below 2^63"),
        (np.array([2**63, 1], np.uint64), "ids must be distinct and below 2^63"),
    ],
)
def test_other_ids_are_refused_instead_of_rounded(values: Any, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        as_ids(values, "ids", 2)
    assert str(error.value) == sentence


def test_whole_numbers_of_numpy_become_pythons() -> None:
    for value in (2, np.int64(2), np.uint8(2)):
        whole = as_whole(value, "ipc", 1)
        assert type(whole) is int and whole == 2


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (1.5, "ipc is 1.5; give a whole number"),
        (True, "ipc is True; give a whole number"),
        ("2", "ipc is '2'; give a whole number"),
        (None, "ipc is None; give a whole number"),
        (float("nan"), "ipc is nan; give a whole number"),
        (0, "ipc is 0; give 1 or more"),
    ],
)
def test_other_values_are_no_whole_numbers(value: Any, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        as_whole(value, "ipc", 1)
    assert str(error.value) == sentence
