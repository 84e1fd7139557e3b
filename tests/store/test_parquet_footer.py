"""The footer reader agrees with pyarrow about healthy files and survives damaged ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.store.documents import reading
from dcpipe.store.parquet_footer import chunks
from dcpipe.types import DataError

TABLE = pa.table(
    {
        "id": np.arange(700),
        "image": pa.array([{"bytes": bytes([i % 7]) * (i % 50), "path": f"{i}.png"} for i in range(700)]),
        "flag": np.arange(700) % 2 == 0,
        "words": pa.array([["a", "b"], []] * 350),
    }
)


def told_by_pyarrow(path: Path) -> list[tuple[str, bool]]:
    meta = pq.read_metadata(path)
    found = []
    for group in range(meta.num_row_groups):
        for column in range(meta.num_columns):
            chunk = meta.row_group(group).column(column)
            plain = chunk.compression == "UNCOMPRESSED" and set(chunk.encodings) <= {"PLAIN", "RLE", "BIT_PACKED"}
            found.append((chunk.path_in_schema, plain and not chunk.has_dictionary_page))
    return found


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "ZSTD"])
@pytest.mark.parametrize("dictionary", [True, False, ["id"]])
@pytest.mark.parametrize("rows", [1, 97, 700])
def test_it_agrees_with_pyarrow(tmp_path: Path, compression: str, dictionary: bool | list[str], rows: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, compression=compression, use_dictionary=dictionary, row_group_size=rows)
    assert [(chunk.column, chunk.plain) for chunk in chunks(path)] == told_by_pyarrow(path)


def test_one_compressed_column_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, compression={"id": "ZSTD"}, use_dictionary=False, column_encoding={"flag": "RLE"})
    assert {chunk.column: chunk.plain for chunk in chunks(path)} == dict(told_by_pyarrow(path))
    assert [chunk.column for chunk in chunks(path) if not chunk.plain] == ["id"]


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 20))
def test_a_damaged_footer_is_read_or_reported(tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    pq.write_table(TABLE.slice(0, 20), path, compression="NONE", use_dictionary=False)
    data, draw = bytearray(path.read_bytes()), random.Random(seed)
    length = int.from_bytes(data[-8:-4], "little")
    for _ in range(flips):
        data[-8 - draw.randrange(length) - 1] = draw.randrange(256)
    path.write_bytes(data)
    try:
        with reading(path, "Parquet", "pull it again"):
            assert all(isinstance(chunk.plain, bool) for chunk in chunks(path))
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"\x19" * 3000,  # lists inside lists
        b"\x1c" * 3000,  # structs inside structs
        b"\x19\xf8" + b"\xff" * 9 + b"\x7f",  # a list that claims 2^63 texts
        b"\x18" + b"\xff" * 8 + b"\x7f",  # a text that claims 2^62 bytes
        b"\x15" + b"\xff" * 40,  # a number without end
        b"\x1d\x00\x00",  # an unknown type
        b"\x15\x02\x00",  # no row groups
        b"\x45\x02\x00",  # a number in place of the row groups
    ],
)
def test_hostile_footers_are_reported(tmp_path: Path, footer: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"), reading(path, "Parquet", "pull it again"):
        list(chunks(path))


def test_a_file_without_an_end_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for data in (b"", b"PAR1", b"PAR1" + (10**6).to_bytes(4, "little") + b"PAR1"):
        path.write_bytes(data)
        with pytest.raises(DataError, match="its end has no footer"), reading(path, "Parquet", "pull it again"):
            list(chunks(path))
