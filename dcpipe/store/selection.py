"""A selection: one small Parquet file, in pick order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dcpipe.store.artifact import open_artifact
from dcpipe.store.columns import write_columns
from dcpipe.types import Selection


def save_selection(folder: Path, selection: Selection) -> dict[str, Any]:
    """Write `picks.parquet` and return the metadata to publish it with."""
    write_columns(folder / "picks.parquet", {"id": selection.ids, "label": selection.labels, "gain": selection.gains})
    return {"method": selection.method}


def load_selection(path: Path) -> Selection:
    """The selection of an artifact `selection`, in pick order."""
    artifact = open_artifact(path, "selection")
    table = pq.read_table(path / "picks.parquet")
    return Selection(
        ids=table["id"].to_numpy().astype(np.int64),
        labels=table["label"].to_numpy().astype(np.int64),
        gains=table["gain"].to_numpy().astype(np.float64),
        method=artifact.meta["method"],
    )
