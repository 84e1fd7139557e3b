"""Features of the train split: Zarr arrays, and a Parquet file of ids and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dcpipe.store.artifact import open_artifact
from dcpipe.store.blocks import open_blocks
from dcpipe.types import Features


def load_features(path: Path) -> Features:
    """Features of the train split; `vectors` and `logits` stay on disk."""
    open_artifact(path, "features")
    keys = pq.read_table(path / "keys.parquet")
    rank = keys["rank"].to_numpy().astype(np.int64) if "rank" in keys.column_names else None
    label_rate = np.asarray(open_blocks(path / "label_rate.zarr")[:])
    return Features(
        vectors=open_blocks(path / "vectors.zarr"),
        logits=open_blocks(path / "logits.zarr"),
        label_rate=label_rate if rank is None else np.where(rank >= 0, label_rate, np.inf),
        ids=keys["id"].to_numpy().astype(np.int64),
        labels=keys["label"].to_numpy().astype(np.int64),
        rank=rank,
    )
