"""Indexes of images: their rows come back, and what can be no place in a source is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcpipe.store.image_index import SCHEMA, encoded_bytes, read_index, write_index
from dcpipe.types import DataError, Elsewhere, ImageTable, PlacedImage

ROWS = [
    PlacedImage(7, 1, "train/bee/é.png", None, None, 5, b"a" * 32),
    PlacedImage(9, 0, "train-0.parquet", 3, None, 6, b"b" * 32),
    PlacedImage(4, 1, "train-0.tar", None, 2**40, 0, b"c" * 32),
]


def test_rows_come_back(tmp_path: Path) -> None:
    write_index(tmp_path / "part.parquet", ROWS)
    assert read_index(tmp_path / "part.parquet", np.arange(3)) == ROWS
    assert read_index(tmp_path / "part.parquet", np.array([2, 0])) == [ROWS[2], ROWS[0]]
    assert read_index(tmp_path / "part.parquet", np.array([], dtype=np.int64)) == []


def test_an_index_is_small_and_always_the_same(tmp_path: Path) -> None:
    rows = [ROWS[0]._replace(id=i, file=f"train/n01440764/n01440764_{i}.JPEG") for i in range(2048)]
    for name in "ab":
        write_index(tmp_path / name, rows)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 110 * len(rows)


def test_the_bytes_of_images_are_those_in_their_source(tmp_path: Path) -> None:
    paths = (tmp_path / "0", tmp_path / "1")
    write_index(paths[0], ROWS[:2])
    write_index(paths[1], ROWS[2:])
    ids, labels, grey = np.array([7, 9, 4]), np.array([1, 0, 1]), (0.5, 0.5, 0.5)
    table = ImageTable(paths, 2, ids, labels, ("ant", "bee"), 8, grey, grey, elsewhere=Elsewhere("source"))
    assert encoded_bytes(table) == 5 + 6 + 0
    copied = ImageTable(paths, 2, ids, labels, ("ant", "bee"), 8, grey, grey)
    assert encoded_bytes(copied) == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"file": "../../etc/passwd"}, "'../../etc/passwd' is no file below the source; pull or rebuild it"),
        ({"file": "/etc/passwd"}, "'/etc/passwd' is no file below the source"),
        ({"file": "a\0b"}, "is no file below the source"),
        ({"file": ""}, "'' is no file below the source"),
        ({"file": None}, "some values of its column 'file' are missing; pull or rebuild it"),
        ({"sha256": None}, "some values of its column 'sha256' are missing"),
        ({"row": -1}, "row -1, start None and size 5 are no place in a file; pull or rebuild it"),
        ({"row": 1, "start": 1}, "row 1, start 1 and size 5 are no place in a file"),
        ({"size": -1}, "row None, start None and size -1 are no place"),
    ],
)
def test_what_can_be_no_place_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{**ROWS[0]._asdict(), **changes}], schema=SCHEMA)
    pq.write_table(table, tmp_path / "part.parquet", compression="NONE", use_dictionary=False)
    with pytest.raises(DataError) as error:
        read_index(tmp_path / "part.parquet", np.arange(1))
    assert sentence in str(error.value) and "part.parquet" in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_index(path, ROWS)
    with pytest.raises(DataError, match=r"part\.parquet cannot be read as an index of images \("):
        read_index(path, np.array([3]))
    pq.write_table(pq.read_table(path), path)  # a few bytes could become very many
    with pytest.raises(DataError, match=r"part\.parquet: its column 'id' is packed; pull or rebuild it"):
        read_index(path, np.arange(1))
    pq.write_table(pq.read_table(path).drop_columns(["start"]), path)
    with pytest.raises(DataError, match=r"part\.parquet has no single column 'start'"):
        read_index(path, np.arange(1))
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part\.parquet cannot be read as an index of images \("):
        read_index(path, np.arange(1))
