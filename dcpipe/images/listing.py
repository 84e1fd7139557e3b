"""The files that an image source reads, by name, size and time of modification.

A listing is made without opening a file, so that a changed source is noticed before every run even if it has a million
images. An image that is replaced by another one with the same size and the same time is not noticed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcpipe.types import DataError


@dataclass(frozen=True)
class Listing:
    """How many files there are, their bytes, and a SHA-256 over name, size and time of modification of each."""

    files: int
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def list_source(source: Callable[..., Any], options: Mapping[str, Any]) -> Listing | None:
    """The listing of the files of a source, or None if the source does not use `reads_files`.

    Raises `DataError` for a path that does not exist or cannot be listed.
    """
    paths: Callable[..., Iterable[Path]] | None = getattr(source, "reads_files", None)
    return None if paths is None else list_files(paths(**options))


def list_files(paths: Iterable[Path]) -> Listing:
    """The listing of files, and of all files in folders except hidden ones. It does not depend on the order of `paths`,
    nor on where they are. Raises `DataError` as `list_source` does."""
    digest, n_files, n_bytes = hashlib.sha256(), 0, 0
    for path in sorted(paths):
        with _in_one_sentence(path):
            for name, status in _walk(path, "", set()) if path.is_dir() else [(path.name, path.stat())]:
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
                n_files += 1
                n_bytes += status.st_size
    return Listing(n_files, n_bytes, digest.hexdigest())


def files_below(folder: Path) -> list[tuple[str, os.stat_result]]:
    """(name relative to `folder`, status) of every file below it that is not hidden, in folders that are links too. The
    status of a link to nothing is that of the link itself. Raises `DataError` for a folder that cannot be read, whose
    files would be missing without a word."""
    with _in_one_sentence(folder):
        return list(_walk(folder, "", set()))


@contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        name, reason = getattr(error, "filename", None) or path, getattr(error, "strerror", None) or error
        raise DataError(f"{name} cannot be listed ({reason}); correct images.options or its rights") from error


def is_hidden(name: str) -> bool:
    """Whether files below this name are never images: names that start with a dot, and the folder that macOS adds to
    archives for resource forks."""
    return name.startswith(".") or name == "__MACOSX"


def _walk(folder: Path, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below a folder by its relative name, sorted. `above` are the folders that contain this one, so that a
    link to one of them is not followed for ever."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in above:
        return
    inside = above | {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as scan:
        entries = sorted((entry for entry in scan if not is_hidden(entry.name)), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", inside)
        elif entry.is_file():  # not a socket
            yield f"{prefix}{entry.name}", entry.stat()
        elif entry.is_symlink():  # to nothing
            yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False)
