"""Zarr v3 arrays that are filled shard by shard along axis 0; a shard is the unit of work, of retries and of hashing.

The file of a shard exists if and only if its rows are written (`write_empty_chunks`, and Zarr renames finished shards
into place), so an interrupted writer knows what is left to do. Attributes stay empty, because they would be hashed with
the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from dcpipe.store.files import sync
from dcpipe.types import DataError, require

SHARD_BYTES = 48 * 2**20
CHUNK_BYTES = 384 * 2**10
# Zarr does not store this with the array. It is needed on reopening too, or a shard of zeros would stay missing.
_WRITE_EMPTY_CHUNKS = {"array.write_empty_chunks": True}


@dataclass(frozen=True)
class Blocks:
    """An array on disk and the size of its shards, in rows of axis 0."""

    array: Any
    path: Path
    rows: int

    def __len__(self) -> int:
        """Number of shards."""
        return -(-int(self.array.shape[0]) // self.rows)

    def span(self, block: int) -> slice:
        """The rows of shard `block`."""
        return slice(block * self.rows, min((block + 1) * self.rows, int(self.array.shape[0])))

    def missing(self) -> list[int]:
        """The shards that are not written yet."""
        return [block for block in range(len(self)) if not self._file(block).exists()]

    def _file(self, block: int) -> Path:
        """The file in which Zarr stores shard `block`, which spans all axes but the first."""
        return self.path.joinpath("c", str(block), *["0"] * (len(self.array.shape) - 1))

    def write(self, block: int, values: npt.NDArray[Any]) -> None:
        """Write all rows of one shard at once, to disk. Raises `DataError` for NaN and infinity."""
        span = self.span(block)
        with np.errstate(over="ignore"):  # values that overflow the stored dtype become infinite and are refused below
            values = values.astype(self.array.dtype)
        if not np.isfinite(values).all():
            row = span.start + int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(f"{self.path.name}: row {row} contains NaN or infinity; check the teacher and its inputs")
        require(
            values.shape == (span.stop - span.start, *self.array.shape[1:]),
            f"{self.path.name}: shard {block} has shape {list(values.shape)}",
        )
        self.array[span] = values
        sync(self._file(block))


def shard_rows(shape: tuple[int, ...], itemsize: int) -> int:
    """Rows per shard: a power of two, for about `SHARD_BYTES`, but at least about 16 shards, so that the work on small
    stores can resume too."""
    per_row = itemsize * int(np.prod(shape[1:], dtype=np.int64))
    by_bytes = max(1, SHARD_BYTES // per_row)
    by_count = max(1, -(-shape[0] // 16))
    return int(2 ** int(np.log2(min(by_bytes, by_count))))


def _inner(shape: tuple[int, ...], rows: int, itemsize: int) -> tuple[int, ...]:
    """The shape of inner chunks of about `CHUNK_BYTES`. For [image, view, class] they have at most 16 views, so that a
    few views of all images can be read without reading all views."""
    if len(shape) == 1:
        return (rows,)
    steps = next((d for d in range(min(16, shape[1]), 0, -1) if shape[1] % d == 0), 1) if len(shape) == 3 else shape[1]
    tail = (steps, *shape[2:])
    images = max(1, CHUNK_BYTES // (itemsize * int(np.prod(tail, dtype=np.int64))))
    return (min(rows, int(2 ** int(np.log2(images)))), *tail)


def create_blocks(path: Path, shape: tuple[int, ...], dtype: str, rows: int | None = None) -> Blocks:
    """Create the array, or open the unfinished array of an interrupted run.

    `rows` is the number of rows per shard, a power of two; by default it is computed by `shard_rows`.
    """
    itemsize = np.dtype(dtype).itemsize
    rows = rows or shard_rows(shape, itemsize)
    if (path / "zarr.json").exists():
        with zarr.config.set(_WRITE_EMPTY_CHUNKS):
            return Blocks(zarr.open_array(path, mode="r+"), path, rows)
    with zarr.config.set(_WRITE_EMPTY_CHUNKS):
        array = zarr.create_array(
            path,
            shape=shape,
            shards=(rows, *_whole(shape, _inner(shape, rows, itemsize))),
            chunks=_inner(shape, rows, itemsize),
            dtype=dtype,
            compressors=None,  # general compressors save only 0-9 % of fp16 logits, and may change between versions
            fill_value=0,
        )
    return Blocks(array, path, rows)


def _whole(shape: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of a shard along all axes but the first: those of the array, rounded up to whole inner chunks."""
    return tuple(-(-n // c) * c for n, c in zip(shape[1:], chunk[1:], strict=True))


def open_blocks(path: Path) -> Any:
    """A finished array, read-only, which can be sliced like a NumPy array."""
    require((path / "zarr.json").is_file(), f"{path} is not a Zarr array; run `dvc repro` to make it")
    return zarr.open_array(path, mode="r")
