"""Rows by class: a stable order, offsets, and the sorted copy on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import store


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), max_size=30))
def test_classes_are_contiguous_and_keep_their_order(labels: list[int]) -> None:
    order, offsets = store.by_label(np.array(labels, dtype=np.int64), 5)
    expected = [row for label in range(5) for row in range(len(labels)) if labels[row] == label]
    assert order.tolist() == expected
    assert offsets.tolist() == [sum(value < label for value in labels) for label in range(6)]


@pytest.mark.parametrize("n", [1, 100, 8192 + 3])  # the last takes two blocks
def test_the_sorted_copy_is_the_array_in_that_order(n: int, tmp_path: Path) -> None:
    source = np.random.default_rng(n)
    array, order = source.normal(size=(n, 2)).astype(np.float32), source.permutation(n)
    found = store.sorted_rows(array, order, tmp_path / "sorted.npy")
    assert isinstance(found, np.memmap) and found.dtype == np.float32
    assert np.array_equal(found, array[order])
