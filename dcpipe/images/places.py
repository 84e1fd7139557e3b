"""Where the files of a source are: on this machine or at a URL, with the same few operations for both.

A place is a `pathlib.Path` or a `Remote`, which is an address in an object store or on a web server. Files of this
machine are read as they always were; remote ones by as few requests as possible, several at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from dcpipe.store import urls
from dcpipe.types import DataError, require
from dcpipe.types.paths import is_url

Item = TypeVar("Item")
Result = TypeVar("Result")

GAP, RUN = 2**12, 2**23  # bytes between pieces that are read at once, and bytes of them together
MAX_FILE = 2**30  # bytes of an image or of a list of classes; beyond, something is wrong, and memory would fill


@dataclass(frozen=True, order=True)
class Remote:
    """A file or folder at a URL."""

    url: str

    @property
    def is_web(self) -> bool:
        """Whether it is on a web server, which has no lists of files."""
        return self.url.startswith("http")

    @property
    def name(self) -> str:
        """The last part of the path."""
        last = self.url.rpartition("/")[2]
        return unquote(last) if self.is_web else last

    def __truediv__(self, name: str) -> Remote:
        return Remote(urls.join(self.url, name)) if name else self

    def __str__(self) -> str:
        return self.url


Place = Path | Remote


class Piece(NamedTuple):
    """`size` bytes of a file, from byte `start`."""

    file: Place
    start: int
    size: int


def place(where: str | Path) -> Place:
    """The place that an option names. Raises `DataError` for a URL that cannot be read."""
    return Remote(urls.checked_url(where)) if is_url(where) else Path(where)


def overlapping(work: Callable[[Item], Result], items: Sequence[Item], remote: bool) -> list[Result]:
    """The results of `work` on all items, in order. Where they are `remote`, several wait for the network at a time."""
    if not remote:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=urls.CONNECTIONS) as pool:
        return list(pool.map(work, items))


def names_in(folder: Place) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders that are directly in a folder, sorted; none if it does not exist.

    Raises `DataError` for https, which has no lists of files.
    """
    if isinstance(folder, Remote):
        files, folders = urls.list_folder(folder.url)
        return sorted(Remote(file.url).name for file in files), sorted(folders)
    if not folder.is_dir():
        return [], []
    with os.scandir(folder) as scan:
        entries = list(scan)
    return (
        sorted(entry.name for entry in entries if entry.is_file()),
        sorted(entry.name for entry in entries if entry.is_dir()),
    )


def relative(file: Place, root: Place) -> str:
    """The name of a file below `root`, with slashes: `root / name` is the file again."""
    if isinstance(file, Remote):
        name = file.url.removeprefix(f"{root}/")
        return unquote(name) if file.is_web else name
    return file.relative_to(str(root)).as_posix()


def open_file(file: Place, size: int | None = None) -> Any:
    """An open file, which reads exactly what it is asked for where it is remote. `size`, if it is known, saves a
    request."""
    return urls.open_file(file.url, size) if isinstance(file, Remote) else file.open("rb")


def read_file(file: Place, size: int | None = None, what: str = "image") -> bytes:
    """All bytes of a file. `size`, if it is known, saves a request where the file is remote; `what` it is, in words for
    messages.

    Raises `DataError` for one that cannot be read, and for a remote one of more than `MAX_FILE` bytes.
    """
    if isinstance(file, Remote):
        return urls.read(file.url, MAX_FILE) if size is None else read_piece(Piece(file, 0, size))
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(what, file, error) from error


def read_piece(piece: Piece) -> bytes:
    """The bytes of a piece.

    Raises `DataError` if the file cannot be read or ends before, or if the piece has more than `MAX_FILE` bytes.
    """
    file, start, size = piece
    require(0 <= size <= MAX_FILE, f"an image in {file} has {size:,} bytes, more than the {MAX_FILE:,} it may have")
    if isinstance(file, Remote):
        return urls.read_range(file.url, start, start + size)
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            content = stream.read(size)
    except OSError as error:
        raise _unreadable("file", file, error) from error
    require(
        len(content) == size,
        f"{file} ends before byte {start + size:,}, where an image should end; it has changed, so restore it or run "
        "again",
    )
    return content


def read_pieces(pieces: Sequence[Piece]) -> list[bytes]:
    """The bytes of each piece, in order. Neighbours in a file are read at once, and requests for remote ones overlap.
    Raises the errors of `read_piece`."""
    remote = any(isinstance(piece.file, Remote) for piece in pieces)
    return [content for contents in overlapping(_read_run, list(_runs(pieces)), remote) for content in contents]


def _read_run(run: Sequence[Piece]) -> list[bytes]:
    """The bytes of pieces that follow each other in a file."""
    file, start, _ = run[0]
    content = read_piece(Piece(file, start, run[-1].start + run[-1].size - start))
    return [content[piece.start - start : piece.start - start + piece.size] for piece in run]


def _runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Consecutive pieces in groups, each of which is read at once: they follow each other in a file, with hardly more
    than the headers of an archive between them, and take `RUN` bytes at most unless it is one piece."""
    run: list[Piece] = []
    for piece in pieces:
        if run:
            gap = piece.start - (run[-1].start + run[-1].size)
            span = piece.start + piece.size - run[0].start
            if piece.file != run[0].file or not 0 <= gap <= GAP or span > RUN:
                yield run
                run = []
        run.append(piece)
    if run:
        yield run


def _unreadable(what: str, file: Path, error: OSError) -> DataError:
    return DataError(f"{what} {file} cannot be read ({error.strerror}); restore it or run again without it")
