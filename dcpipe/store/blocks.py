"""Zarr v3 arrays filled shard by shard along axis 0: one shard is one unit of work, retry and DVC hash.

A shard file exists exactly when its rows are written (`write_empty_chunks`, and Zarr renames finished shards
into place), so a killed writer sees what is left to do. Attributes stay empty: they would be hashed with the data.
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
# Not stored with the array: without it on reopening too, a shard of zeros would stay missing for ever.
_EVEN_EMPTY = {"array.write_empty_chunks": True}


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
        """Rows of shard `block`."""
        return slice(block * self.rows, min((block + 1) * self.rows, int(self.array.shape[0])))

    def missing(self) -> list[int]:
        """Shards not written yet."""
        return [block for block in range(len(self)) if not self._file(block).exists()]

    def _file(self, block: int) -> Path:
        """Where Zarr puts shard `block`, which spans all axes but the first."""
        return self.path.joinpath("c", str(block), *["0"] * (len(self.array.shape) - 1))

    def write(self, block: int, values: npt.NDArray[Any]) -> None:
        """Write all rows of one shard at once, to disk; refuses NaN and infinity, so that no store ever holds them."""
        span = self.span(block)
        with np.errstate(over="ignore"):  # what overflows the stored type is infinite on disk: refuse it here
            values = values.astype(self.array.dtype)
        if not np.isfinite(values).all():
            row = span.start + int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(f"{self.path.name}: row {row} holds NaN or infinity; check the teacher and its inputs")
        require(
            values.shape == (span.stop - span.start, *self.array.shape[1:]),
            f"{self.path.name}: shard {block} has shape {list(values.shape)}",
        )
        self.array[span] = values
        sync(self._file(block))


def shard_rows(shape: tuple[int, ...], itemsize: int) -> int:
    """Rows a shard: a power of two near `SHARD_BYTES`, but at least about 16 shards, so small stores resume too."""
    per_row = itemsize * int(np.prod(shape[1:], dtype=np.int64))
    by_bytes = max(1, SHARD_BYTES // per_row)
    by_count = max(1, -(-shape[0] // 16))
    return int(2 ** int(np.log2(min(by_bytes, by_count))))


def _inner(shape: tuple[int, ...], rows: int, itemsize: int) -> tuple[int, ...]:
    """Inner chunks of about `CHUNK_BYTES`; for [image, view, class] at most 16 views each, so that a few epochs
    of all images can be read without reading all views."""
    if len(shape) == 1:
        return (rows,)
    steps = next((d for d in range(min(16, shape[1]), 0, -1) if shape[1] % d == 0), 1) if len(shape) == 3 else shape[1]
    tail = (steps, *shape[2:])
    images = max(1, CHUNK_BYTES // (itemsize * int(np.prod(tail, dtype=np.int64))))
    return (min(rows, int(2 ** int(np.log2(images)))), *tail)


def create_blocks(path: Path, shape: tuple[int, ...], dtype: str, rows: int | None = None) -> Blocks:
    """Make the array, or open the unfinished one of an earlier run that was killed.

    `rows`: rows a shard, a power of two; by default from the shape, see `shard_rows`.
    """
    itemsize = np.dtype(dtype).itemsize
    rows = rows or shard_rows(shape, itemsize)
    if (path / "zarr.json").exists():
        with zarr.config.set(_EVEN_EMPTY):
            return Blocks(zarr.open_array(path, mode="r+"), path, rows)
    with zarr.config.set(_EVEN_EMPTY):
        array = zarr.create_array(
            path,
            shape=shape,
            shards=(rows, *_whole(shape, _inner(shape, rows, itemsize))),
            chunks=_inner(shape, rows, itemsize),
            dtype=dtype,
            compressors=None,  # fp16 logits gain 0-9 % from general compressors: not worth a codec that may change
            fill_value=0,
        )
    return Blocks(array, path, rows)


def _whole(shape: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[int, ...]:
    """A shard spans all other axes, rounded up to whole inner chunks."""
    return tuple(-(-n // c) * c for n, c in zip(shape[1:], chunk[1:], strict=True))


def open_blocks(path: Path) -> Any:
    """A finished array, read-only, sliceable like NumPy."""
    require((path / "zarr.json").is_file(), f"{path} is not a Zarr array; run `dvc repro` to make it")
    return zarr.open_array(path, mode="r")
