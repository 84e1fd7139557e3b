"""What is in the files of an artifact, for `dcpipe inspect`: arrays with their bytes, and headers. Arrays are not
loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dcpipe import store
from dcpipe.reports.verification import describe, verify_all
from dcpipe.store.documents import reading
from dcpipe.store.manifest import MANIFEST
from dcpipe.store.tensors import read_header
from dcpipe.types import DataError, require

_DEEP = 3  # folders between a file of an artifact and its manifest


@dataclass(frozen=True)
class Array:
    """A part of a file; what is no array has no dtype."""

    name: str
    dtype: str
    shape: list[int]
    bytes: int


@dataclass(frozen=True)
class File:
    """A file, or a folder that is a Zarr array: its size on disk, what it holds, and what its header says besides."""

    name: str
    bytes: int
    arrays: list[Array]
    header: dict[str, str]


@dataclass(frozen=True)
class Contents:
    """The files at a path, and a line about each artifact that was verified, or that none was."""

    path: Path
    files: list[File]
    verified: list[str]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        files = [asdict(file) for file in self.files]
        return {"path": str(self.path), "bytes": self.bytes, "verified": self.verified, "files": files}


def contents(path: Path) -> Contents:
    """Every file of a folder, or one file, after all artifacts in it were verified, or the one that it belongs to.

    Raises `DataError` that names the damaged files, and for parameters, which hold no arrays.
    """
    require(path.exists(), f"{path} is neither a folder, a file nor a tag NAME@vX.Y.Z; give one of them")
    require(
        path.suffix not in (".yaml", ".yml") or path.is_dir(),
        f"{path} holds no arrays; run `dcpipe check` for parameters, and `dcpipe status` for what was built",
    )
    verified = _verification(path)
    root = path if path.is_dir() else path.parent
    return Contents(path, [_file(file, file.relative_to(root).as_posix()) for file in _files(path)], verified)


def _file(file: Path, name: str) -> File:
    size = store.folder_bytes(file) if file.is_dir() else file.stat().st_size
    remedy = "pull or rebuild it"
    if file.suffix == ".safetensors":
        header = read_header(file)
        arrays = [Array(key, entry.dtype, list(entry.shape), entry.n_bytes) for key, entry in header.arrays.items()]
        return File(name, size, [Array("header", "", [], header.n_bytes), *arrays], dict(header.metadata))
    if file.suffix == ".parquet":
        with reading(file, "Parquet", remedy):
            return File(name, size, [Array("rows", "", [pq.read_metadata(file).num_rows], size)], {})
    if file.suffix == ".zarr":
        with reading(file, "a Zarr array", remedy):
            array = store.open_blocks(file)
            return File(name, size, [Array("array", str(array.dtype), list(array.shape), size)], {})
    return File(name, size, [], {})


def _verification(path: Path) -> list[str]:
    """What verifying the artifacts at `path` found, or the one around it; raises `DataError` for damaged ones."""
    folders = [path, *path.absolute().parents]
    around = next((folder for folder in folders[: _DEEP + 1] if (folder / MANIFEST).is_file()), None)
    root = path if around is None else around
    found = verify_all(root)
    if found.damaged:
        raise DataError("\n".join(found.damaged))
    if not found.whole:
        return [f"not verified: there is no {MANIFEST} that vouches for it"]
    if around is not None and len(found.whole) == 1:
        return [describe(found.whole[0])]
    return found.lines(root)


def _files(path: Path) -> list[Path]:
    """The files below a folder, where a Zarr array counts as one file, or the path itself if it is a file or array."""
    if path.is_file() or path.suffix == ".zarr":
        return [path]
    arrays = sorted(path.rglob("*.zarr"))
    inside = [p for p in path.rglob("*") if p.is_file() and not any(array in p.parents for array in arrays)]
    return sorted([*arrays, *inside])
