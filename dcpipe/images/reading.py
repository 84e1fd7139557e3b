"""Read the pixels of an `ImageTable`: one part, some rows, everything, or a stream in training order. Whether the table
has copies of the images or says where they are makes no difference here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from dcpipe.images.ahead import ahead
from dcpipe.images.decoding import DecodeSome, Pixels, decode_into, decode_squares
from dcpipe.images.index import read_encoded
from dcpipe.random import PARTS_OF_EPOCH, Stream, permutation
from dcpipe.types import ImageSet, ImageTable, IntArray, Selection, require

PART_ROWS = 2048
MIXED_PARTS = 3  # parts in the buffer of `stream`

Batch = tuple[Pixels, IntArray, IntArray]


def _span(table: ImageTable, part: int) -> slice:
    """The rows of the table that are in a part."""
    require(0 <= part < len(table.parts), f"image table has no part {part}; choose one of 0..{len(table.parts) - 1}")
    return slice(part * table.part_rows, min((part + 1) * table.part_rows, len(table)))


def _squares(table: ImageTable) -> DecodeSome:
    """How the images of a table are decoded, unless a caller wants something else."""
    return partial(decode_squares, decoding=table.decoding)


def _read_part(table: ImageTable, part: int, out: Pixels) -> None:
    span = _span(table, part)
    encoded = read_encoded(table, part, np.arange(span.stop - span.start))
    decode_into(out, encoded, table.ids[span], _squares(table))


def read_part(table: ImageTable, part: int) -> Batch:
    """(images u8 [m, s, s, 3], labels i64 [m], ids i64 [m]) of one part, in the order of the table."""
    span = _span(table, part)
    images = np.empty((span.stop - span.start, table.size, table.size, 3), dtype=np.uint8)
    _read_part(table, part, images)
    return images, table.labels[span], table.ids[span]


def read_parts(table: ImageTable) -> Iterator[tuple[Pixels, IntArray]]:
    """Images u8 [m, s, s, 3] and labels i64 [m] of a whole split, part by part in the order of the table.

    The next part is decoded while one is in use, so two decoded parts are in memory.
    """
    for images, labels, _ in ahead(partial(read_part, table), range(len(table.parts))):
        yield images, labels


def read_rows(table: ImageTable, rows: IntArray, decode_some: DecodeSome | None = None) -> Pixels:
    """Images u8 [m, s, s, 3] of the rows i64 [m] of a table, in the given order; rows may repeat.

    Only the row groups that contain them are read, one part at a time. `decode_some` decodes them otherwise than the
    table says.
    """
    inside = len(rows) == 0 or (int(rows.min()) >= 0 and int(rows.max()) < len(table))
    require(inside, f"rows must lie within 0..{len(table) - 1}; look them up in the ids of this table")
    distinct, back = np.unique(rows, return_inverse=True)
    images = np.empty((len(distinct), table.size, table.size, 3), dtype=np.uint8)
    places = distinct // table.part_rows
    for part in np.unique(places):
        low, high = np.searchsorted(places, [part, part + 1])
        part_rows = distinct[low:high]
        encoded = read_encoded(table, int(part), part_rows - part * table.part_rows)
        decode_into(images[low:high], encoded, table.ids[part_rows], decode_some or _squares(table))
    ordered: Pixels = images if np.array_equal(distinct, rows) else images[back]
    return ordered


def read_selection(table: ImageTable, selection: Selection) -> ImageSet:
    """The selected images in the order of picking. Raises `DataError` for an image that is not in the table."""
    rows = table.rows_of(selection.ids)
    return ImageSet(read_rows(table, rows), table.labels[rows], table.ids[rows], table.classes)


def read_all(table: ImageTable) -> Pixels:
    """All images u8 [n, s, s, 3] in the order of the table, in memory allocated once: the table's `decoded_bytes`."""
    images = np.empty((len(table), table.size, table.size, 3), dtype=np.uint8)
    for part in range(len(table.parts)):
        _read_part(table, part, images[_span(table, part)])
    return images


def stream(
    table: ImageTable,
    seed: int,
    epoch: int,
    batch_size: int,
    share: Callable[[int], slice] | None = None,
    decode_some: DecodeSome | None = None,
) -> Iterator[Batch]:
    """One epoch of a table that is larger than memory: every row once, in batches (images u8, labels, ids).

    The order is a function of (seed, epoch), and the last batch may be smaller. Parts are read in random order into a
    buffer of `MIXED_PARTS` parts. Whenever the buffer is full, it is shuffled and as many batches as fit into one part
    leave it, so the neighbours of a row change from epoch to epoch. The next part is read meanwhile. Memory:
    `MIXED_PARTS` + 2 decoded parts and two batches.

    `share` is called with the number of rows in a batch and says which of them are wanted, for example by one of
    several processes. Other rows are neither decoded nor kept. `decode_some` is that of `read_rows`.
    """
    require(batch_size >= 1, f"batch_size must be at least 1, got {batch_size}; raise it")
    order = permutation(seed, Stream.TABLE_PARTS + epoch * PARTS_OF_EPOCH, len(table.parts))
    leaving: Iterable[list[IntArray]] = _leaving(table, order, seed, epoch, batch_size)
    wanted, capacity = np.ones(len(table), dtype=np.bool_), min(len(table), MIXED_PARTS * table.part_rows + batch_size)
    if share is not None:
        leaving = [[rows[share(len(rows))] for rows in batches] for batches in leaving]
        wanted[:] = False
        wanted[np.concatenate([rows for batches in leaving for rows in batches])] = True
        arrive = np.cumsum([wanted[_span(table, int(part))].sum() for part in order])
        left = np.cumsum([0, *(sum(map(len, batches)) for batches in leaving)])[:-1]
        capacity = int((arrive - left).max())
    images = np.empty((capacity, table.size, table.size, 3), dtype=np.uint8)
    slot_of, free = np.empty(len(table), dtype=np.int64), np.arange(capacity)

    def read(part: int) -> tuple[IntArray, Pixels]:
        span = _span(table, part)
        rows = span.start + np.flatnonzero(wanted[span])
        return rows, read_rows(table, rows, decode_some)

    for (rows, pixels), batches in zip(ahead(read, order.tolist()), leaving, strict=True):
        slots, free = np.split(free, [len(rows)])
        images[slots], slot_of[rows] = pixels, slots
        for batch in batches:
            yield images[slot_of[batch]], table.labels[batch], table.ids[batch]
        free = np.concatenate([free, *(slot_of[batch] for batch in batches)])


def _leaving(table: ImageTable, order: IntArray, seed: int, epoch: int, batch_size: int) -> Iterator[list[IntArray]]:
    """For every part that is read, the rows of the batches that leave the buffer then, in order."""
    first, waiting = Stream.TABLE_PARTS + epoch * PARTS_OF_EPOCH, np.empty(0, dtype=np.int64)
    for step, part in enumerate(order, start=1):
        span = _span(table, int(part))
        waiting = np.concatenate([waiting, np.arange(span.start, span.stop)])
        waiting = waiting[permutation(seed, first + step, len(waiting))]
        number = max(0, len(waiting) - (MIXED_PARTS - 1) * table.part_rows)
        number = len(waiting) if step == len(order) else number - number % batch_size
        yield [waiting[start : min(start + batch_size, number)] for start in range(0, number, batch_size)]
        waiting = waiting[number:]
