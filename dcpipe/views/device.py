"""Bring arrays and constants to a device without making the host wait for it.

An ordinary copy from host memory to a GPU waits until the GPU has done all the work that is queued, so the host cannot
prepare the next batch meanwhile. Nothing here does that. On a CPU nothing is copied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import IntArray


def send(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array as a tensor on the device.

    The host goes on as soon as CUDA has copied the array to a buffer of its own, so the caller may change it then. On a
    CPU the tensor shares the memory of the array.
    """
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def take(tensor: torch.Tensor, rows: IntArray) -> torch.Tensor:
    """Rows of a tensor, gathered on its own device."""
    return tensor.index_select(0, send(rows, tensor.device))


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A few numbers as a tensor, which is copied to each device once. Do not change it in place."""
    return torch.tensor(values, device=device, dtype=dtype)
