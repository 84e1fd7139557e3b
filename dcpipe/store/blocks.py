"""Zarr v3 arrays that are filled shard by shard along axis 0; a shard is the unit of work, of retries and of hashing.

The file of a shard exists if and only if its rows are written (`write_empty_chunks`, and Zarr renames finished shards
into place), so an interrupted writer knows what is left to do. Attributes stay empty, because they would be hashed with
the data.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcpipe.store.artifact import Artifact
from dcpipe.store.documents import Open, Strict, checked, parse, read_bytes, reading, shown
from dcpipe.store.files import sync
from dcpipe.types import DataError, require
from dcpipe.types.paths import local_path

SHARD_BYTES = 48 * 2**20
CHUNK_BYTES = 384 * 2**10
DESCRIPTION_BYTES = 1000  # of zarr.json, about
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
    path = local_path(path, "the folder of an array")
    itemsize = np.dtype(dtype).itemsize
    rows = rows or shard_rows(shape, itemsize)
    zarr = need_zarr()
    with (
        zarr.config.set(_WRITE_EMPTY_CHUNKS),
        suppress(zarr.errors.ContainsArrayError),
    ):  # another process may be faster
        if not (path / "zarr.json").exists():
            zarr.create_array(
                path,
                shape=shape,
                shards=(rows, *_whole(shape, _inner(shape, rows, itemsize))),
                chunks=_inner(shape, rows, itemsize),
                dtype=dtype,
                compressors=None,  # general compressors save only 0-9 % of fp16 logits, and may change with versions
                fill_value=0,
            )
    with zarr.config.set(_WRITE_EMPTY_CHUNKS):
        return Blocks(zarr.open_array(path, mode="r+"), path, rows)


def array_size(shape: tuple[int, ...], dtype: str, rows: int | None = None) -> tuple[int, int]:
    """(bytes, files) that a finished array of `create_blocks` takes on disk, known before it is made.

    A chunk is written whole, also where only a part of it lies inside the array, and a shard ends in an index of 16
    bytes per chunk and a checksum.
    """
    itemsize = np.dtype(dtype).itemsize
    rows = rows or shard_rows(shape, itemsize)
    chunk = _inner(shape, rows, itemsize)
    across = math.prod(-(-n // c) for n, c in zip(shape[1:], chunk[1:], strict=True))
    shards, last = -(-shape[0] // rows), (shape[0] - 1) % rows + 1
    chunks = ((shards - 1) * (rows // chunk[0]) + -(-last // chunk[0])) * across
    index = shards * (16 * (rows // chunk[0]) * across + 4)
    return chunks * math.prod(chunk) * itemsize + index + DESCRIPTION_BYTES, shards + 1


def _whole(shape: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of a shard along all axes but the first: those of the array, rounded up to whole inner chunks."""
    return tuple(-(-n // c) * c for n, c in zip(shape[1:], chunk[1:], strict=True))


def chunk_views(shape: tuple[int, int, int], dtype: str) -> int:
    """The views in an inner chunk of an array [image, view, class] of `create_blocks`: what reading one view reads."""
    itemsize = np.dtype(dtype).itemsize
    return _inner(shape, shard_rows(shape, itemsize), itemsize)[1]


def array_path(array: Any) -> Path | None:
    """Where a Zarr array is on the local disk; None for arrays that are elsewhere, or only in memory."""
    root = getattr(getattr(array, "store", None), "root", None)
    return None if root is None else (Path(root) / array.path).absolute()


def open_blocks(path: Path) -> Any:
    """A finished array, read-only, which can be sliced like a NumPy array."""
    path = local_path(path, "the folder of an array")
    require((path / "zarr.json").is_file(), f"{path} is not a Zarr array; run `dvc repro` to make it")
    return need_zarr().open_array(path, mode="r")


_Count = Annotated[int, Field(ge=1, lt=2**40)]
_SMALL = 2**28  # bytes that a shard may take in memory, however small the array is
_CODECS = {"sharding_indexed", "bytes", "crc32c"}  # none that expands: bytes on disk bound those in memory


class _Regular(Strict):
    chunk_shape: list[_Count]


class _Grid(Strict):
    name: Literal["regular"]
    configuration: _Regular


class _Metadata(Open):
    """The part of `zarr.json` that decides what reading takes."""

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: list[_Count] = Field(max_length=3)
    data_type: Literal["float16", "float32", "float64"]
    chunk_grid: _Grid
    codecs: list[dict[str, Any]] = Field(max_length=4)


def open_listed(artifact: Artifact, name: str, dimensions: int) -> Any:
    """A finished array of an artifact, read-only, sliceable like NumPy.

    Raises `DataError` unless its manifest lists every shard and nothing else, and unless their bytes suffice for the
    shape: a missing shard would read as zeros, and an unlisted one was never verified.
    """
    path, remedy = artifact.path / name, f"remove {artifact.path} and run `dvc repro`"
    description = artifact.file(f"{name}/zarr.json")
    content = parse(read_bytes(description, 2**20, remedy), description, remedy)
    meta = checked(_Metadata, content, description, remedy)
    shape, chunk, item = meta.shape, meta.chunk_grid.configuration.chunk_shape, np.dtype(meta.data_type).itemsize
    require(
        len(shape) == len(chunk) == dimensions,
        f"{path} has shape {shape} in shards of {chunk}, expected {dimensions} dimensions; {remedy}",
    )
    unknown = _codec_names(meta.codecs) - _CODECS
    require(not unknown, f"{path} is packed by {shown(sorted(unknown))}, which dcpipe does not write; {remedy}")
    within = f"{name}/c/"
    listed = {
        key.removeprefix(within): record["bytes"] for key, record in artifact.files.items() if key.startswith(within)
    }
    counts = [-(-n // rows) for n, rows in zip(shape, chunk, strict=True)]
    strange = [key for key in listed if not _in_grid(key, counts)]
    require(
        not strange and len(listed) == math.prod(counts),
        f"{path} has {len(listed)} files, expected {math.prod(counts):,} shards of shape {chunk}; {remedy}",
    )
    whole, taken = math.prod(shape) * item, sum(listed.values())
    require(
        whole <= taken and math.prod(chunk) * item <= max(_SMALL, 4 * whole),
        f"{path} has {taken:,} bytes, too few for shape {shape} in shards of {chunk}; {remedy}",
    )
    with reading(path, "a Zarr array", remedy):
        return need_zarr().open_array(path, mode="r", zarr_format=3)


def need_zarr() -> Any:
    """The package zarr, which readers of releases may lack. Raises `DataError` if it is not installed."""
    try:
        import zarr
        import zarr.errors
    except ImportError as error:
        raise DataError(
            "arrays of features and of uncompressed labels need zarr, which is not installed; run `pip install "
            '"dcpipe[pipeline]"`'
        ) from error
    return zarr


def _codec_names(codecs: list[dict[str, Any]]) -> set[str]:
    """Names of codecs and of those inside them."""
    names: set[str] = set()
    for codec in codecs:
        names.add(str(codec.get("name")))
        settings = codec.get("configuration")
        for inner in settings.values() if isinstance(settings, dict) else ():
            if isinstance(inner, list):
                names |= _codec_names([each for each in inner if isinstance(each, dict)])
    return names


def _in_grid(key: str, counts: list[int]) -> bool:
    """Whether `key` is the name that Zarr gives a shard of this grid, as 3/0/0."""
    parts = key.split("/")
    return len(parts) == len(counts) and all(
        part.isascii() and part.isdigit() and str(int(part)) == part and int(part) < count
        for part, count in zip(parts, counts, strict=True)
    )
