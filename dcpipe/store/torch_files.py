"""Read files of `torch.save` that other programs wrote, without running code in them.

The weights-only reader of PyTorch makes tensors, plain numbers, strings and containers, and refuses anything that would
call code. Training scripts also store two harmless kinds of values with their tensors: NumPy scalars (an accuracy) and
`argparse.Namespace` (the options of the run). Both are allowed here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

_NUMBERS = (np.int32, np.int64, np.float32, np.float64)


def load_plain(path: Path) -> Any:
    """The content of a file of `torch.save`, on the CPU.

    Raises the errors of PyTorch: `pickle.UnpicklingError` for a file that contains anything but tensors and plain
    values, and other errors for a damaged file. No code in the file is run.
    """
    scalar: Any = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [argparse.Namespace, np.dtype, *(type(np.dtype(number)) for number in _NUMBERS)]
    # NumPy 1 and 2 write different names for the same function.
    allowed += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)
