"""Rows by class: a stable order, offsets, and the sorted copy on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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


class Watched:
    """An array that counts how often it is read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return self.array[index]


def test_rows_are_sorted_when_they_are_first_read_and_once(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    order, path = np.random.default_rng(1).permutation(50), tmp_path / "sorted.npy"
    watched = Watched(array)
    rows = store.RowsSortedWhenRead(watched, order, path)
    assert (rows.shape, rows.dtype) == ((50, 2), np.float32)
    assert watched.reads == 0 and not path.exists()
    with ThreadPoolExecutor(max_workers=4) as pool:  # at the same time, from several threads
        found = list(pool.map(lambda k: np.array(rows[k : k + 5]), range(0, 50, 5)))
    assert np.array_equal(np.concatenate(found), array[order])
    assert watched.reads == 1
