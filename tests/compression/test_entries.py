"""Entries of labels: as many as fit, one more for the first labels, written and read back in any order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import payload
from dcpipe.compression.entries import Entries, check_classes, class_bytes, class_dtype, largest
from dcpipe.types import DataError, LabelShape


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 500), st.integers(0, 10**5), st.integers(1, 6), st.integers(1, 40))
def test_entries_are_all_that_fit_and_no_more_than_there_are(labels: int, budget: int, entry: int, most: int) -> None:
    table = Entries.fitting(labels, budget, entry, most)
    held = table.each * labels + table.extra
    assert held == min(budget // entry, most * labels)
    assert 0 <= table.extra < labels and table.width <= most
    assert payload(table.specs("x", "uint8")) == held


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_tables_come_back_from_their_arrays_in_any_order(extra: int) -> None:
    table = Entries(6, 2, extra)
    rng = np.random.default_rng(0)
    whole = torch.from_numpy(rng.integers(0, 200, (6, table.width)))
    whole = table.trim(whole, torch.arange(6))
    blocks = [table.split("x", whole[part], part, "uint8") for part in (np.array([0, 1]), np.array([2, 3, 4, 5]))]
    arrays = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == table.specs("x", "uint8")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    index = np.array([5, 0, 3, 0, 4])
    assert torch.equal(table.gather("x", tensors, torch.from_numpy(index), torch.int64), whole[index])


def test_a_label_without_an_additional_entry_repeats_its_first() -> None:
    """Writing that entry twice does not matter, so no table is ragged."""
    table = Entries(3, 2, 1)
    rows = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert table.longer(np.arange(3)).tolist() == [True, False, False]
    assert table.trim(rows, torch.arange(3)).tolist() == [[1, 2, 3], [4, 5, 4], [7, 8, 7]]
    assert Entries(3, 3, 0).trim(rows, torch.arange(3)) is rows


@pytest.mark.parametrize(("classes", "size"), [(2, 1), (256, 1), (257, 2), (65_536, 2)])
def test_classes_take_one_byte_if_that_is_enough(classes: int, size: int) -> None:
    assert class_bytes(classes) == size == np.dtype(class_dtype(classes)).itemsize
    assert int(np.iinfo(class_dtype(classes)).max) >= classes - 1
    check_classes("x", LabelShape(1, 1, classes))


def test_more_classes_than_two_bytes_name_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        check_classes("x", LabelShape(1, 1, 65_537))
    assert str(caught.value) == "codec 'x' supports up to 65536 classes, but there are 65537; choose codec 'svd'"


def test_the_largest_come_first_and_of_equals_the_lower_class() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -3.0, -2.0, float("-inf")]])
    assert largest(logits, 3).tolist() == [[1, 3, 2], [0, 1, 2], [0, 2, 1]]
