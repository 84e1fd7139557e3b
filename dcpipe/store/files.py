"""Files and folders that appear whole or not at all.

A file is written next to its place under a name that ends in `.partial`, forced to disk, and renamed: after a kill or a
power cut the old file is there, or the new one, never half of it. Leftovers of a kill are what `*.partial` matches.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name to write the new content of `path` under; `path` is replaced when the block ends without an error.

    The name is a fresh one, so that two processes that write the same file cannot mix their bytes: the last one wins.
    When the block fails, what it wrote is removed and `path` stays as it was.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    partial.touch()
    mode = partial.stat().st_mode
    try:
        yield partial
        partial.chmod(mode)  # safetensors makes files that only their owner may read
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_entries(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which gets the name `path` when the block ends without an error; `path` must not exist.

    Its files are not forced to disk one by one: an export can be made again, and may have 50,000 of them.
    """
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_entries(path.parent)


def sync(path: Path) -> None:
    """Force a file's bytes to disk: a rename may otherwise get there before them, and a power cut leave it empty."""
    with path.open("rb+") as stream:  # Windows syncs only what is open for writing
        os.fsync(stream.fileno())


def sync_entries(folder: Path) -> None:
    """Force a folder's list of names to disk, where the system can: Windows opens no folder, and some network file
    systems sync none. The renames in it are done either way; they might only not outlast a power cut."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
