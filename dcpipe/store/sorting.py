"""Rows grouped by class, in memory and on disk, so that one class can be read at a time."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.types import IntArray, Sliceable

ROWS = 8192


def by_label(labels: IntArray, n_classes: int) -> tuple[IntArray, IntArray]:
    """The order i64 [n] that sorts rows by class, stably, and the offsets of the classes in this order, i64 [c + 1]."""
    counts = np.bincount(labels, minlength=n_classes)
    return np.argsort(labels, kind="stable"), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def sorted_rows(array: Sliceable, order: IntArray, path: Path) -> npt.NDArray[Any]:
    """`array[order]` as a memory map of the scratch file `path` (.npy), written in one sequential pass over `array`."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    out = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=array.shape)
    for start in range(0, len(order), ROWS):
        out[place[start : start + ROWS]] = array[start : start + ROWS]
    out.flush()
    view: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return view


class RowsSortedWhenRead:
    """`sorted_rows(array, order, path)`, which is made when it is first read: not every reader looks at every array."""

    def __init__(self, array: Sliceable, order: IntArray, path: Path) -> None:
        self._array, self._order, self._path = array, order, path
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @cached_property
    def _sorted(self) -> npt.NDArray[Any]:
        return sorted_rows(self._array, self._order, self._path)

    def __getitem__(self, index: Any) -> Any:
        with self._lock:  # two threads must not write the file at the same time
            rows = self._sorted
        return rows[index]
