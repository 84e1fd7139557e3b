"""Parquet files: small ones of plain columns, written and read, and what any of them must satisfy before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dcpipe.store.documents import reading, shown
from dcpipe.store.files import replacing
from dcpipe.types import require

REMEDY = "pull or rebuild it"
_GROWTH = 1000  # a column of numbers is never packed more tightly


def write_columns(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write columns of equal length, name -> values, atomically."""
    with replacing(path) as partial:
        pq.write_table(pa.table(dict(columns)), partial)


def read_columns(
    path: Path, columns: Mapping[str, str], optional: Mapping[str, str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Columns of numbers by name; `columns` and `optional` give the dtype of each.

    Raises `DataError` for a file that is not Parquet, that lacks one of `columns`, whose columns have other types or
    empty places, and that claims more rows than its size can explain.
    """
    with reading(path, "Parquet", REMEDY), pq.ParquetFile(path) as file:
        wanted = {
            **columns,
            **{name: dtype for name, dtype in (optional or {}).items() if name in file.schema_arrow.names},
        }
        for name, dtype in wanted.items():
            check_column(path, file.schema_arrow, name, pa.from_numpy_dtype(np.dtype(dtype)))
        rows, size = file.metadata.num_rows, path.stat().st_size
        require(8 * rows <= _GROWTH * size, f"{path} claims {rows:,} rows in {size:,} bytes; {REMEDY}")
        table = file.read(columns=list(wanted))
        for name in wanted:
            nulls = table[name].null_count
            require(nulls == 0, f"{path}: {nulls} values of its column {name!r} are missing; {REMEDY}")
        return {name: np.array(table[name].to_numpy()) for name in wanted}


def check_column(path: Path, schema: Any, name: str, kind: Any) -> None:
    """Raise `DataError` unless the file has one column of this name, of this Arrow type."""
    require(
        schema.names.count(name) == 1,
        f"{path} has no single column {name!r} (its columns: {shown(schema.names)}); {REMEDY}",
    )
    found = schema.field(name).type
    require(found == kind, f"{path}: its column {name!r} is {shown(str(found))}, expected {kind}; {REMEDY}")
