"""How the columns of a Parquet file are packed, read from its footer.

pyarrow knows it too (`file.metadata.row_group(0).column(0)`). But if that part of a footer is damaged, pyarrow 26 and
older end the whole process ("terminate called after throwing an instance of 'parquet::ParquetException'"), and the file
of a stranger must not be able to do that. So this module reads the few values that matter: the footer is one struct in
Thrift's compact protocol, a self-describing format of numbered fields.

Formats: "Thrift compact protocol" of Apache Thrift, and `parquet.thrift` of Apache Parquet, which gives the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_END = b"PAR1"
_DEPTH = 32  # structs, lists and maps inside each other; parquet.thrift needs ten
# The compact protocol's numbers of types.
_TRUE, _FALSE, _BYTE, _I16, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_ROW_GROUPS, _COLUMNS, _META = 4, 1, 3
_ENCODINGS, _NAME, _CODEC, _DICTIONARY = 2, 3, 4, 11
_UNCOMPRESSED = 0
_PLAIN, _RLE, _BIT_PACKED = 0, 3, 4


@dataclass(frozen=True)
class Chunk:
    """The values of one column in one row group: the name of the column, and whether the values are stored as they are,
    neither compressed nor replaced by places in a dictionary."""

    column: str
    plain: bool


def chunks(path: Path) -> Iterator[Chunk]:
    """All column chunks of a Parquet file.

    Raises some error of Python's own (`ValueError`, `IndexError`, `KeyError`, `TypeError`, ...) for bytes that are no
    such footer; the caller reports the file as damaged.
    """
    for group in _fields(_footer(path))[_ROW_GROUPS]:
        for column in group[_COLUMNS]:
            meta = column[_META]
            plain = meta[_CODEC] == _UNCOMPRESSED and set(meta[_ENCODINGS]) <= {_PLAIN, _RLE, _BIT_PACKED}
            yield Chunk(b".".join(meta[_NAME]).decode(), plain and _DICTIONARY not in meta)


def _footer(path: Path) -> bytes:
    """The struct at the end of the file, which its own length and four letters follow."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read()
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _END or length + 8 > size:
            raise ValueError("its end has no footer")
        file.seek(size - 8 - length)
        return file.read(length)


def _fields(data: bytes) -> dict[int, Any]:
    """The fields of the struct that `data` starts with, by their numbers; structs within it are dicts too."""
    return _Reader(data).struct(0)


class _Reader:
    """Reads values of the compact protocol one after another. Sizes need no bound: every element takes a byte or more,
    so that a list that claims too many elements runs into the end of the data (`IndexError`)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def unsigned(self) -> int:
        """A number in groups of 7 bits, the lowest first; the highest bit of a byte says that more follow."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number has more than 64 bits")

    def signed(self) -> int:
        """A number whose sign is its lowest bit (zigzag)."""
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def take(self, n: int) -> bytes:
        if self.place + n > len(self.data):
            raise ValueError("a value goes beyond the end of the footer")
        self.place += n
        return self.data[self.place - n : self.place]

    def struct(self, depth: int) -> dict[int, Any]:
        """Fields until one of type 0. Their numbers are given as differences, or in full where the difference is 0."""
        if depth == _DEPTH:
            raise ValueError("values are too deep inside each other")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self.byte()) & 0xF:
            number = number + (head >> 4) if head >> 4 else self.signed()
            kind = head & 0xF
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        """A value of a type, as it is written in lists and, but for truth values, in fields."""
        if depth == _DEPTH:
            raise ValueError("values are too deep inside each other")
        if kind in (_TRUE, _FALSE, _BYTE):
            return self.byte()
        if _I16 <= kind <= _I64:
            return self.signed()
        if kind == _DOUBLE:
            return self.take(8)
        if kind == _BINARY:
            return self.take(self.unsigned())
        if kind in (_LIST, _SET):
            head = self.byte()
            size = head >> 4 if head >> 4 < 15 else self.unsigned()
            return [self.value(head & 0xF, depth + 1) for _ in range(size)]
        if kind == _MAP:
            size = self.unsigned()
            kinds = self.byte() if size else 0
            return [(self.value(kinds >> 4, depth + 1), self.value(kinds & 0xF, depth + 1)) for _ in range(size)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"a value has the unknown type {kind}")
