"""safetensors files, written without holding them in memory.

The format: 8 bytes of little-endian header length, a JSON header (padded with spaces), then the arrays' bytes.
The library's writer wants whole arrays as bytes; a label pack for ImageNet-1K is tens of gigabytes, so the
header is laid out here and rows are copied block by block. Reading is left to the library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from dcpipe.store.files import replacing
from dcpipe.types import DataError, Sliceable, require

HEADER_STEP = 256  # headers are padded to a multiple, so a pack's size is known before its settings' digits are
_NAMES = {
    "float16": "F16",
    "float32": "F32",
    "int8": "I8",
    "uint8": "U8",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
}
_COPY_BYTES = 64 * 2**20


def header_bytes(specs: Mapping[str, tuple[tuple[int, ...], str]], metadata: Mapping[str, str]) -> bytes:
    """The file's first bytes for arrays of the given (shape, dtype name)."""
    content: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    # Widest items first keeps every array aligned to its item size.
    for name in sorted(specs, key=lambda n: (-np.dtype(specs[n][1]).itemsize, n)):
        shape, dtype = specs[name]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
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
    """Write arrays (NumPy, memory maps or Zarr) and return the file's size; the file appears whole or not at all."""
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
    """All arrays and the metadata; raises `DataError` when the file is not safetensors."""
    try:
        with safe_open(path, framework="numpy") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, dict(stream.metadata() or {})  # noqa: SIM118
    except (SafetensorError, FileNotFoundError) as error:
        raise DataError(_unreadable(path, error)) from error


class Entry(NamedTuple):
    """One array of a file: its dtype as the format names it (`F16`), its shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def n_bytes(self) -> int:
        return self.stop - self.start


class Header(NamedTuple):
    """What a file says of itself: the header's own size and digest, and each array's entry, by name."""

    n_bytes: int
    sha256: str
    arrays: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header alone; no array is read. Offsets count from the start of the file.

    Raises `DataError` when the file is not safetensors: no length that it states is followed beyond the file's end.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        first = 8 + int.from_bytes(head, "little")
        require(len(head) == 8 and first <= size, _unreadable(path, "its header is longer than the file"))
        text = stream.read(first - 8)
    try:
        content = json.loads(text)
        metadata = dict(content.pop("__metadata__", {}))
        arrays = {
            name: Entry(entry["dtype"], tuple(entry["shape"]), *(first + int(at) for at in entry["data_offsets"]))
            for name, entry in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(_unreadable(path, error)) from error
    for name, entry in arrays.items():
        inside = first <= entry.start <= entry.stop <= size
        require(inside, _unreadable(path, f"array {name!r} lies outside the file"))
    return Header(first, hashlib.sha256(head + text).hexdigest(), arrays, metadata)


def hash_arrays(path: Path) -> dict[str, str]:
    """SHA-256 of each array's bytes and, as "", of the header's: what names the part of a file that was changed.

    Raises `DataError` when the header is not one.
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
