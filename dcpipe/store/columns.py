"""Small Parquet files of plain columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dcpipe.store.files import replacing


def write_columns(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write columns of equal length, name -> values, atomically."""
    with replacing(path) as partial:
        pq.write_table(pa.table(dict(columns)), partial)
