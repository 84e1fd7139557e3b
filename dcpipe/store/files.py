"""Write files and folders atomically.

A file is written next to its final place under a name that ends in `.partial`, synced to disk, and renamed. So after a
kill or a power cut there is the old file or the new one, but never half of it. A kill may leave files that match
`*.partial`.
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
    """A context manager that gives a temporary name for the new content of `path`, and replaces `path` at the end.

    The name is unique, so two processes that write the same file cannot mix their bytes; the last one wins. If the
    block fails, the temporary file is removed and `path` is not changed.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    partial.touch()
    mode = partial.stat().st_mode
    try:
        yield partial
        partial.chmod(mode)  # safetensors creates files that only their owner may read
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_entries(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A context manager that gives an empty folder, which is renamed to `path` at the end; `path` must not exist.

    Its files are not synced to disk one by one, because an export may have 50,000 files and can be repeated.
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
    """Sync the bytes of a file to disk. Otherwise a rename may reach the disk first, and a power cut leave it empty."""
    with path.open("rb+") as stream:  # Windows syncs only what is open for writing
        os.fsync(stream.fileno())


def sync_entries(folder: Path) -> None:
    """Sync the list of names in a folder to disk, if the system can. Windows cannot open folders, and some network file
    systems cannot sync them; then a rename is done, but may be lost in a power cut."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
