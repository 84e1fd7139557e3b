"""safetensors files that are written without having them in memory.

The format is the length of the header (8 bytes, little-endian), a JSON header (padded with spaces), and the bytes of
the arrays. The writer of the library needs whole arrays as bytes, but a label pack for ImageNet-1K may have tens of
gigabytes. So the header is made here, and rows are copied block by block. Arrays are read with the library.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter
from safetensors import safe_open

from dcpipe.store.documents import Strict, loads, reading, shown
from dcpipe.store.files import replacing
from dcpipe.types import Sliceable, require

HEADER_STEP = 256  # headers are padded to a multiple of it, so a pack's size is known before the digits of its settings
_NAMES = {
    "float16": "F16",
    "float32": "F32",
    "int8": "I8",
    "uint8": "U8",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
}
# Bytes of an item of each dtype that is read: those written here, and those that weights may have.
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "I8", "U8"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
_COPY_BYTES = 64 * 2**20
_MAX_HEADER = 16 * 2**20
_REMEDY = "pull or rebuild it"

_Number = Annotated[int, Field(gt=-(2**62), lt=2**62)]


class _Described(Strict):
    """An array as the header describes it."""

    dtype: str = Field(max_length=20)
    shape: list[Annotated[_Number, Field(ge=0)]] = Field(max_length=16)
    data_offsets: list[_Number] = Field(min_length=2, max_length=2)


_ARRAYS = TypeAdapter(dict[str, _Described])
_HEADER = TypeAdapter(dict[str, Any])
_METADATA = TypeAdapter(dict[str, str])


def header_bytes(specs: Mapping[str, tuple[tuple[int, ...], str]], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of the file, for arrays of the given (shape, dtype name)."""
    content: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    # The widest items come first, so that every array is aligned to its item size.
    for name in sorted(specs, key=lambda n: (-np.dtype(specs[n][1]).itemsize, n)):
        shape, dtype = specs[name]
        size = math.prod(shape) * np.dtype(dtype).itemsize
        content[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % HEADER_STEP)
    return len(text).to_bytes(8, "little") + text


def write(path: Path, arrays: Mapping[str, Sliceable], metadata: Mapping[str, str]) -> int:
    """Write arrays (NumPy, memory maps or Zarr) to a file, atomically, and return its size."""
    specs = {name: (tuple(array.shape), np.dtype(array.dtype).name) for name, array in arrays.items()}
    head = header_bytes(specs, metadata)
    with replacing(path) as partial, partial.open("wb") as stream:
        stream.write(head)
        for name in sorted(specs, key=lambda n: (-np.dtype(specs[n][1]).itemsize, n)):
            array = arrays[name]
            per_row = max(1, int(np.prod(array.shape[1:], dtype=np.int64)) * np.dtype(array.dtype).itemsize)
            step = max(1, _COPY_BYTES // per_row)
            for start in range(0, array.shape[0], step):
                stream.write(np.ascontiguousarray(array[start : start + step]).tobytes())
    return path.stat().st_size


def read(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """All arrays and the metadata. Raises `DataError` if the file is not safetensors."""
    header = read_header(path)
    unknown = [name for name, entry in header.arrays.items() if entry.dtype not in _NAMES.values()]
    require(
        not unknown, _unreadable(path, f"array {shown((unknown or [''])[0])} has a dtype that dcpipe does not write")
    )
    with reading(path, "safetensors", _REMEDY), safe_open(path, framework="numpy") as stream:
        return {name: stream.get_tensor(name) for name in header.arrays}, header.metadata


class Entry(NamedTuple):
    """One array of a file: its dtype in the words of the format (`F16`), its shape, and the place of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def n_bytes(self) -> int:
        return self.stop - self.start


class Header(NamedTuple):
    """The header of a file: its size and digest, the entry of each array by name, and the metadata."""

    n_bytes: int
    sha256: str
    arrays: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read the header without the arrays; offsets count from the start of the file.

    Raises `DataError` if the file is not safetensors, or if a length in it goes beyond the end of the file.
    """
    with reading(path, "safetensors", _REMEDY):
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            first = 8 + int.from_bytes(head, "little")
            require(len(head) == 8 and first <= size, _unreadable(path, "its header is longer than the file"))
            require(first <= _MAX_HEADER, _unreadable(path, f"its header is longer than {_MAX_HEADER:,} bytes"))
            text = stream.read(first - 8)
        content = dict(_HEADER.validate_python(loads(text), strict=True))
        metadata = _METADATA.validate_python(content.pop("__metadata__", {}), strict=True)
        described = _ARRAYS.validate_python(content, strict=True)
    arrays = {
        name: Entry(entry.dtype, tuple(entry.shape), *(first + at for at in entry.data_offsets))
        for name, entry in described.items()
    }
    for name, entry in arrays.items():
        inside = first <= entry.start <= entry.stop <= size
        require(inside, _unreadable(path, f"array {shown(name)} lies outside the file"))
        item = _ITEM_BYTES.get(entry.dtype)
        require(
            item is None or entry.n_bytes == math.prod(entry.shape) * item,
            _unreadable(path, f"array {shown(name)} of shape {list(entry.shape)} has {entry.n_bytes} bytes"),
        )
    return Header(first, hashlib.sha256(head + text).hexdigest(), arrays, metadata)


def hash_arrays(path: Path) -> dict[str, str]:
    """SHA-256 of the bytes of each array and, under the name "", of the header; they show which part of a file changed.

    Raises `DataError` if the header cannot be read.
    """
    header = read_header(path)
    digests = {"": header.sha256}
    with path.open("rb") as stream:
        for name, entry in header.arrays.items():
            stream.seek(entry.start)
            whole = hashlib.sha256()
            for left in range(entry.n_bytes, 0, -_COPY_BYTES):
                whole.update(stream.read(min(left, _COPY_BYTES)))
            digests[name] = whole.hexdigest()
    return digests


def _unreadable(path: Path, why: object) -> str:
    return f"{path} cannot be read as safetensors ({why}); pull or rebuild it"
