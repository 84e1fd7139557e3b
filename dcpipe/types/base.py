"""What all nouns are made with: array types, the one error for bad input, and checks that several share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Mix = Literal["none", "cutmix_images", "cutmix_labels"]
By = Literal["images", "cells"]
Colour = tuple[float, float, float]  # red, green and blue in [0, 1]: a mean or a standard deviation
MIXES: tuple[str, ...] = ("none", "cutmix_images", "cutmix_labels")


class DataError(ValueError):
    """Bad input, told in one sentence that names the thing, the value found and the remedy."""


class BudgetError(DataError):
    """A budget below the smallest size that what was asked for can take."""


class Sliceable(Protocol):
    """What an array larger than memory must offer: NumPy, a memory map and a Zarr array all do."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def require(condition: bool, sentence: str) -> None:
    """Raise `DataError(sentence)` unless `condition` holds."""
    if not condition:
        raise DataError(sentence)


def check_labels(labels: IntArray, classes: Sequence[str], where: str) -> None:
    """Labels are i64 [n] in [0, len(classes)); classes are distinct names."""
    require(len(set(classes)) == len(classes), f"{where}: class names repeat; make them distinct")
    require(labels.ndim == 1 and labels.dtype == np.int64, f"{where}: labels must be i64 [n], got {labels.dtype}")
    if len(labels):
        low, high = int(labels.min()), int(labels.max())
        fits = low >= 0 and high < len(classes)
        require(fits, f"{where}: labels span {low}..{high} but there are {len(classes)} classes; check the class list")


def check_same_classes(first: Sequence[str], second: Sequence[str], where: str) -> None:
    """Raise `DataError` at the first difference in order: a silent one is the field's most reported bug."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        require(a == b, f"{where}: class {index} is {a!r} on one side and {b!r} on the other; use one class order")
    n, m = len(first), len(second)
    require(n == m, f"{where}: {n} classes on one side and {m} on the other; use one class list")
