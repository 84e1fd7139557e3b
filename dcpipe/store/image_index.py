"""Indexes of images: tables that say where images are, and what their bytes must be, instead of holding copies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcpipe.store import parquet_footer
from dcpipe.store.columns import REMEDY, check_column
from dcpipe.store.documents import reading, shown
from dcpipe.store.files import replacing
from dcpipe.types import ImageTable, IntArray, PlacedImage, require

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("label", pa.int64()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("start", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.binary(32)),
    ]
)
OPTIONAL = frozenset({"row", "start"})  # they are missing where a file is an image


def write_index(path: Path, images: Sequence[PlacedImage]) -> None:
    """Write a part of an index, atomically."""
    columns = [pa.array(values, field.type) for values, field in zip(zip(*images, strict=True), SCHEMA, strict=True)]
    with replacing(path) as partial:
        pq.write_table(pa.table(columns, schema=SCHEMA), partial, compression="NONE", use_dictionary=False)


def encoded_bytes(table: ImageTable) -> int:
    """The bytes of the encoded images of a table: those of its files or, where images were not copied, those that the
    images have in their source."""
    if table.elsewhere is None:
        return sum(path.stat().st_size for path in table.parts)
    total = 0
    for path in table.parts:
        with reading(path, "an index of images", REMEDY), pq.ParquetFile(path) as file:
            check_column(path, file.schema_arrow, "size", SCHEMA.field("size").type)
            total += pc.sum(file.read(columns=["size"])["size"]).as_py() or 0
    return total


def read_index(path: Path, rows: IntArray) -> list[PlacedImage]:
    """Some rows of a part. Raises `DataError` for a file that is not an index, and for what cannot be a place.

    The file must be stored as dcpipe stores it, unpacked: then what is read takes no more memory than it has bytes.
    """
    with reading(path, "an index of images", REMEDY), pq.ParquetFile(path) as file:
        for column in SCHEMA:
            check_column(path, file.schema_arrow, column.name, column.type)
        for chunk in parquet_footer.chunks(path):
            require(chunk.plain, f"{path}: its column {shown(chunk.column)} is packed; {REMEDY}")
        table = file.read(columns=SCHEMA.names).take(rows)
        for name in SCHEMA.names:
            require(
                name in OPTIONAL or table[name].null_count == 0,
                f"{path}: some values of its column {name!r} are missing; {REMEDY}",
            )
        # Tuples from columns, because dictionaries from rows take three times as long.
        columns = (column.to_pylist() for column in table.columns)
        images = list(itertools.starmap(PlacedImage, zip(*columns, strict=True)))
    for image in images:
        parts = image.file.split("/")
        require(
            "" not in parts and ".." not in parts and "\0" not in image.file,
            f"{path}: {shown(image.file)} is no file below the source; {REMEDY}",
        )
        numbers = (image.row or 0, image.start or 0, image.size)
        require(
            min(numbers) >= 0 and (image.row is None or image.start is None),
            f"{path}: row {shown(image.row)}, start {shown(image.start)} and size {image.size} are no place in a file; "
            f"{REMEDY}",
        )
    return images
