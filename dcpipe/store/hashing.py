"""SHA-256 of files, computed once in a process for a file that does not change.

A stage opens its inputs, and what loads them opens them again; the images of ImageNet take minutes to hash. A digest is
remembered under the path, device, inode, size and times (of content and of status) of the file, in nanoseconds. A file
that was written less than two seconds before it is hashed is not remembered: another write within the same tick of the
disk's clock would leave no trace in its times (FAT counts in steps of two seconds).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

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


def sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits, read now."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """As `sha256`, but a file that this process has hashed, and that has not changed since, is not read again."""
    before = _state(path)
    if (digest := _known.get(before)) is not None:
        return digest
    started = time.time_ns()
    digest = sha256(path)
    if _state(path) == before and started - before.written > _SETTLED:
        _known[before] = digest
    return digest


def sha256_all(paths: Iterable[Path], *, again: bool) -> list[str]:
    """The digests of files, in threads because hashing releases the GIL; `again` reads every byte now."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(sha256 if again else sha256_once, paths))


def _state(path: Path) -> _State:
    found = path.stat()
    return _State(str(path.absolute()), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
