"""A split that is read several times and decoded once: the test images of many students.

Decoded pixels are kept in memory up to `MEMORY_BYTES`, else in a file without a name in the scratch folder, which
disappears with the process. Where that disk has no room, the images are decoded anew each time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dcpipe.images.decoding import Pixels
from dcpipe.images.reading import read_parts
from dcpipe.shards import opened
from dcpipe.types import ImageTable, IntArray

MEMORY_BYTES = 2**30


@dataclass(frozen=True)
class _Split:
    """A split of an artifact. Two are the same if their origin is, whoever opened them, whatever folder they gave."""

    origin: tuple[str, str, str]
    table: ImageTable = field(compare=False)
    folder: Path = field(compare=False)


@dataclass(eq=False)
class _Kept:
    """Memory for the pixels of a split, u8 [n, s, s, 3], and whether somebody has filled it."""

    table: ImageTable
    images: Pixels
    filled: bool = False

    def parts(self) -> Iterator[tuple[Pixels, IntArray]]:
        """As `read_parts`. Readers that come before it is filled all fill it, with the same pixels."""
        if not self.filled:
            yield from self._fill()
            return
        for start in range(0, len(self.table), self.table.part_rows):
            span = slice(start, start + self.table.part_rows)
            yield self.images[span], self.table.labels[span]

    def _fill(self) -> Iterator[tuple[Pixels, IntArray]]:
        start = 0
        for images, labels in read_parts(self.table):
            self.images[start : start + len(images)] = images
            start += len(images)
            yield images, labels
        self.filled = True


@opened
def _kept(split: _Split) -> _Kept | None:
    """Memory for a split, None if there is none."""
    table, shape = split.table, (len(split.table), split.table.size, split.table.size, 3)
    if table.decoded_bytes <= MEMORY_BYTES:
        return _Kept(table, np.empty(shape, dtype=np.uint8))
    if shutil.disk_usage(split.folder).free < 2 * table.decoded_bytes:
        return None
    with tempfile.TemporaryFile(dir=split.folder) as file:
        return _Kept(table, np.memmap(file, dtype=np.uint8, mode="w+", shape=shape))


def read_kept(table: ImageTable, folder: Path) -> Iterator[tuple[Pixels, IntArray]]:
    """As `read_parts`; a split that this process has read before is not decoded again. `folder` is on the scratch
    disk."""
    if table.origin is None or not len(table):
        return read_parts(table)
    kept = _kept(_Split(table.origin, table, folder))
    return read_parts(table) if kept is None else kept.parts()
