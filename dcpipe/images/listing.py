"""The files that an image source reads, by name, size and time of modification, or by what an object store has instead.

A listing is made without opening a file, so that a changed source is noticed before every run even if it has a million
images. An image that is replaced by another one with the same size and the same time is not noticed. Object stores and
web servers have an ETag or a hash of each file, which changes with its content.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dcpipe.images.places import Place, Remote, overlapping
from dcpipe.store import urls
from dcpipe.types import DataError


@dataclass(frozen=True)
class Listing:
    """How many files there are, their bytes, and a SHA-256 over name, size and version of each."""

    files: int
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


class Found(NamedTuple):
    """A file in a folder: its name relative to it, its size in bytes, and its version: for a file of this machine the
    time of modification in nanoseconds, for a remote one its ETag, hash or time. `lost`: it is a link to nothing."""

    name: str
    size: int
    version: str
    lost: bool = False


def list_source(source: Callable[..., Any], options: Mapping[str, Any]) -> Listing | None:
    """The listing of the files of a source, or None if the source does not use `reads_files`.

    Raises `DataError` for a path that does not exist or cannot be listed.
    """
    paths: Callable[..., Iterable[Place]] | None = getattr(source, "reads_files", None)
    return None if paths is None else list_files(paths(**options))


def list_files(places: Iterable[Place]) -> Listing:
    """The listing of files, and of all files in folders except hidden ones. It does not depend on the order of
    `places`, nor on where they are. Raises `DataError` as `list_source` does."""
    given = list(places)
    local = sorted(place for place in given if not isinstance(place, Remote))
    remote = sorted(place for place in given if isinstance(place, Remote))
    digest, n_files, n_bytes = hashlib.sha256(), 0, 0
    for found in (*map(files_below, local), *overlapping(lambda place: list(files_below(place)), remote, remote=True)):
        for file in found:
            digest.update(f"{file.name}\0{file.size}\0{file.version}\0".encode("utf-8", "surrogateescape"))
            n_files += 1
            n_bytes += file.size
    return Listing(n_files, n_bytes, digest.hexdigest())


def files_below(place: Place) -> Iterator[Found]:
    """Every file below a folder that is not hidden, in folders that are links too; or the file that is there.

    The size and version of a link to nothing are those of the link itself. Raises `DataError` for a folder that cannot
    be read, whose files would be missing without a word, and for one that does not exist.
    """
    if isinstance(place, Remote):
        yield from _remote(place)
    elif place.is_dir():
        with _in_one_sentence(place):
            for name, status in _walk(place, "", set()):
                yield _found(name, status)
    else:
        yield file_at(place)


def file_at(file: Place) -> Found:
    """The file at a place. Raises `DataError` if there is none."""
    if isinstance(file, Remote):
        remote = urls.stat(file.url)
        return Found(file.name, remote.size, remote.version)
    with _in_one_sentence(file):
        return _found(file.name, file.stat())


def _found(name: str, status: os.stat_result) -> Found:
    return Found(name, status.st_size, str(status.st_mtime_ns), stat.S_ISLNK(status.st_mode))


def _remote(place: Remote) -> list[Found]:
    """The files below a URL. Its folders are listed side by side, because a request tells a thousand names at most."""
    files, folders = ([], []) if place.is_web else urls.list_folder(place.url)
    if not files and not folders:
        return [file_at(place)]
    visible = [place / folder for folder in folders if not is_hidden(folder)]
    below = overlapping(lambda folder: urls.list_files(folder.url), visible, remote=True)
    found = []
    for file in (*files, *(file for listed in below for file in listed)):
        name = file.url.removeprefix(f"{place.url}/")
        if not any(map(is_hidden, name.split("/"))):
            found.append(Found(name, file.size, file.version))
    return sorted(found)


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
