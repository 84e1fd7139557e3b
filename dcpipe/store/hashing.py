"""SHA-256 of files, computed once in a process for a file that does not change.

A stage opens its inputs, and what loads them opens them again; the images of ImageNet take minutes to hash. A digest is
remembered under the path, device, inode, size and times (of content and of status) of the file, in nanoseconds. A file
that was written less than two seconds before it is hashed is not remembered: another write within the same tick of the
disk's clock would leave no trace in its times (FAT counts in steps of two seconds).

The stages of a workspace are processes of their own, which share what they know in a file (`sharing`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dcpipe.store.digests import SharedDigests

_SETTLED = 2 * 10**9  # nanoseconds


class _State(NamedTuple):
    """What changes when a file is replaced or written to."""

    path: str
    device: int
    inode: int
    size: int
    written: int
    status: int


_known: dict[_State, str] = {}
_shared: SharedDigests | None = None


@contextmanager
def sharing(path: Path) -> Iterator[None]:
    """A context manager in which digests in the file `path`, which is made when needed, are used and new ones added to
    it."""
    global _shared
    before, _shared = _shared, SharedDigests(path)
    try:
        yield
    finally:
        _shared = before


def sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits, read now."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_sha256(root: Path) -> str:
    """SHA-256 of the names and bytes of all Python files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def sha256_once(path: Path) -> str:
    """As `sha256`, but a file that has not changed since it was hashed, by this process or by one that shares what it
    knows, is not read again."""
    status = path.stat()
    return _known.get(_state(path, status)) or (_shared and _shared.find(status)) or _read(path, status)


def _read(path: Path, before: os.stat_result) -> str:
    """The digest of a file, which is remembered if nothing was written to it meanwhile."""
    state, started = _state(path, before), time.time_ns()
    digest = sha256(path)
    if _state(path, path.stat()) == state and started - before.st_mtime_ns > _SETTLED:
        _known[state] = digest
        if _shared:
            _shared.add(before, digest)
    return digest


def sha256_all(paths: Iterable[Path], *, again: bool) -> list[str]:
    """The digests of files, in threads because hashing releases the GIL; `again` reads every byte now."""

    def work(path: Path) -> str:
        return _read(path, path.stat()) if again else sha256_once(path)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(work, paths))


def _state(path: Path, found: os.stat_result) -> _State:
    return _State(str(path.absolute()), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
