"""What all data types are made with: array types, the one error for bad input, and checks that several of them
share."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Mix = Literal["none", "cutmix_images", "cutmix_labels"]
MixBox = Literal["rounded", "even"]
Precision = Literal["auto", "float32", "bfloat16"]
Ensemble = Literal["mean", "equal_norms"]
By = Literal["images", "cells"]
Colour = tuple[float, float, float]  # red, green and blue in [0, 1]: a mean or a standard deviation
Item = TypeVar("Item")
Result = TypeVar("Result")
MIXES: tuple[str, ...] = ("none", "cutmix_images", "cutmix_labels")
MIX_BOXES: tuple[str, ...] = ("rounded", "even")


class DataError(ValueError):
    """Bad input, described in one sentence that names what is wrong, the value that was found and how to fix it."""


class BudgetError(DataError):
    """A budget that is smaller than the smallest size that the requested codec and options can reach."""


def describe_os_error(error: OSError) -> str:
    """One clause that names the path, the reason and a remedy. Works for `shutil.Error` too, which has no number."""
    cause = error
    if error.errno is None and error.args and isinstance(error.args[0], list) and error.args[0]:
        source, _, reason = error.args[0][0]  # shutil.Error: [(source, destination, reason), ...]
        full = "No space left" in str(reason)
        cause = OSError(errno.ENOSPC if full else errno.EIO, str(reason), str(source))
    where = f" {os.fsdecode(cause.filename)}" if isinstance(cause.filename, str | bytes | os.PathLike) else ""
    reason = cause.strerror or str(cause) or type(cause).__name__
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where and ' at' + where} ({reason}); free space"
    if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for{where or ' a file'} ({reason}); change its rights, or choose another place"
    if cause.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"the path{where} cannot be used ({reason}); correct it"
    return f"the system reports an error{where and ' at' + where} ({reason}); correct its cause"


class NotApplicableError(DataError):
    """Something that is right in itself, but has nothing to work on with the other parameters."""


class Sliceable(Protocol):
    """What an array larger than memory must offer: NumPy, a memory map and a Zarr array all do."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, index: Any, /) -> Any: ...


class Map(Protocol):
    """How tasks run: `work` is called once for each item, and the results come in the order of the items.

    `label` returns the name of an item's task. A task that fails for an external reason (a disk, a network) is tried
    `retries` more times. At most `workers` tasks run at a time. `progress` is the title of the progress display.
    """

    def __call__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        label: Callable[[Item], str],
        *,
        retries: int = 0,
        workers: int = 1,
        progress: str = "",
    ) -> list[Result]: ...


def run_in_turn(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    label: Callable[[Item], str],
    *,
    retries: int = 0,
    workers: int = 1,
    progress: str = "",
) -> list[Result]:
    """A `Map` that runs one task after another and shows no progress, for use outside a flow."""
    return [work(item) for item in items]


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


def find_rows(ids: IntArray, wanted: IntArray, where: str) -> IntArray:
    """Positions of the ids `wanted` in `ids`, whose entries are distinct and in any order: i64 [m], in the order of
    `wanted`.

    Raises `DataError` for the first wanted id that is missing; `where` completes the sentence "image N ...", which says
    where it is missing and what to do.
    """
    order = np.argsort(ids, kind="stable")
    places = np.searchsorted(ids, wanted, sorter=order)
    found = places < len(ids)
    found[found] = ids[order[places[found]]] == wanted[found]
    if not found.all():
        raise DataError(f"image {wanted[~found][0]} {where}")
    rows: IntArray = order[places]
    return rows
