"""Tensors of a stranger's file as arrays: only ordinary ones, whose numbers are all in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import DataError, require


def array_of(
    value: Any, where: str, kinds: str, dimensions: int | None, remedy: str = "give another file"
) -> npt.NDArray[Any]:
    """The numbers of a tensor, without a copy where possible; whole numbers as i64.

    `kinds` are the accepted kinds of NumPy dtypes, and `dimensions` their number (None: any). `where` begins the
    messages, and `remedy` ends some of them. Raises `DataError` for anything but a tensor, for sparse, nested,
    quantised and meta ones, and for one that claims more numbers than its file holds, as an expanded one does.
    """
    require(isinstance(value, torch.Tensor), f"{where} is {type(value).__name__}, expected a tensor; {remedy}")
    require(
        value.layout == torch.strided and not value.is_nested,
        f"{where} is a {'nested' if value.is_nested else 'sparse'} tensor, expected a plain one; {remedy}",
    )
    held = value.untyped_storage().nbytes() if is_plain(value) else 0
    require(
        is_plain(value) and value.numel() * value.element_size() <= held,
        f"{where} is {list(value.shape)}, of which the file holds {held} bytes; copy it again",
    )
    try:
        array: npt.NDArray[Any] = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    except (TypeError, RuntimeError) as error:  # dtypes that NumPy lacks
        raise DataError(f"{where} is {value.dtype}; {remedy}") from error
    require(
        array.dtype.kind in kinds and dimensions in (None, array.ndim),
        f"{where} is {array.dtype} {list(array.shape)}; {remedy}",
    )
    return array.astype(np.int64) if kinds == "iu" else array


def is_plain(value: torch.Tensor) -> bool:
    """Whether a tensor's numbers are in memory, one by one: not so for those of the meta device and quantised ones."""
    return value.device.type == "cpu" and value.layout == torch.strided and not value.is_quantized
