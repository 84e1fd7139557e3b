"""Read files of `torch.save` that other programs wrote, without running code in them.

The weights-only reader of PyTorch makes tensors, plain numbers, strings and containers, and refuses anything that would
call code. Training scripts also store two harmless kinds of values with their tensors: NumPy scalars (an accuracy) and
`argparse.Namespace` (the options of the run). Both are allowed here.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe.types import DataError, require

# How files of PyTorch before version 1.6 begin: a pickle of a magic number. Newer ones are ZIP archives.
_OLD = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_SAVED_AGAIN = (
    "python -c \"import sys, torch; torch.save(torch.load(sys.argv[1], weights_only=True, map_location='cpu'), "
    'sys.argv[2])" OLD NEW'
)
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


def read_plain(path: Path, instead: str = "") -> Any:
    """As `load_plain`, of a stranger's file: it takes no more memory than the file has bytes.

    Raises `DataError` for a file that is truncated or damaged, that has packed entries, that an old PyTorch wrote, or
    that contains anything but tensors and plain values; `instead` says what to do in the last case.
    """
    _check_archive(path)
    try:
        return load_plain(path)
    except Exception as error:  # the archive, the reader and the operating system raise many kinds of errors
        if type(error).__name__ == "UnpicklingError":
            raise DataError(
                f"{path} contains something other than tensors and plain numbers; it was refused, and no code was run"
                + (f"; {instead}" if instead else "")
            ) from error
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is damaged ({first}); copy it again") from error


def _check_archive(path: Path) -> None:
    with path.open("rb") as file:
        old = file.read(len(_OLD)) == _OLD
    require(
        not old, f"{path} was written by PyTorch before 1.6, whose files are not read; save it again: {_SAVED_AGAIN}"
    )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise DataError(f"{path} is truncated or not a file of torch.save; copy it again") from error
    # PyTorch never packs entries. Packed ones, and entries that share bytes, could fill the memory from a small file.
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    held = sum(entry.file_size for entry in entries)
    require(
        not packed and held <= path.stat().st_size,
        f"{path} has packed entries, which torch.save does not write; save its tensors again with torch.save",
    )
