"""Arguments of calls from Python, which may be of any type: arrays, tensors of any device and dtype, lists, and numbers
of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types.base import DataError, IntArray, require


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """An array, tensor or nested list as a NumPy array. A tensor may be on any device, sparse, bfloat16, or part of a
    graph. Raises `DataError` for a tensor without values (device `meta`) and for lists of unequal length."""
    if isinstance(values, torch.Tensor):
        require(
            values.device.type != "meta", f"{name} is a tensor on the device 'meta', which has no values; give them"
        )
        whole = values.detach().to_dense().cpu()
        return (whole.float() if whole.dtype == torch.bfloat16 else whole).numpy()
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be read as an array ({error}); give rows of equal length") from error


def as_numbers(values: Any, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As `as_array`, in a floating-point `dtype`. Raises `DataError` for anything but real numbers. What is too large
    for `dtype` becomes infinite."""
    array = as_array(values, name)
    require(
        array.dtype.kind in "biuf",
        f"{name} must be real numbers, but are {type(values).__name__ if array.ndim == 0 else array.dtype}; "
        "convert them",
    )
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def as_ids(values: Any, name: str, n: int) -> IntArray:
    """n distinct whole numbers, i64 [n]. Raises `DataError` for anything else, instead of rounding."""
    array = as_array(values, name)
    require(
        array.shape == (n,) and array.dtype.kind in "iu",
        f"{name} must be {n} whole numbers, one for each image, but are {array.dtype} {list(array.shape)}",
    )
    ids: IntArray = array.astype(np.int64)
    require(bool((ids == array).all()) and len(np.unique(ids)) == n, f"{name} must be distinct and below 2^63")
    return ids


def as_whole(value: Any, name: str, least: int) -> int:
    """An integer, of Python or NumPy, of at least `least`. Raises `DataError` for anything else, such as 1.5 or True,
    instead of rounding."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(whole, f"{name} is {value!r}; give a whole number")
    require(value >= least, f"{name} is {value}; give {least} or more")
    return int(value)
