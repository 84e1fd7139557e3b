"""Files of `torch.save` that others wrote, read without running anything in them.

PyTorch's weights-only reader makes tensors, plain numbers, strings and containers, and refuses whatever would call
code. Training scripts also leave two harmless kinds of value beside their tensors: NumPy's scalars (an accuracy) and
`argparse.Namespace` (the options of the run). Both are let in.
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

    Raises what PyTorch raises: `pickle.UnpicklingError` for a file that holds anything but tensors and plain values,
    other errors for a damaged one. Nothing in the file is run either way.
    """
    scalar: Any = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [argparse.Namespace, np.dtype, *(type(np.dtype(number)) for number in _NUMBERS)]
    # NumPy 1 and 2 write different names for the same function.
    allowed += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)
