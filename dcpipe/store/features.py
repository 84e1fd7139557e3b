"""Features of the train split: Zarr arrays, and a Parquet file of ids and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcpipe.store.artifact import open_artifact
from dcpipe.store.blocks import open_listed
from dcpipe.store.columns import read_columns
from dcpipe.store.documents import of, reading
from dcpipe.types import Features, require


def load_features(path: Path) -> Features:
    """Features of the train split; `vectors` and `logits` stay on disk."""
    artifact = open_artifact(path, "features")
    keys = read_columns(artifact.file("keys.parquet"), {"id": "int64", "label": "int64"}, {"rank": "int64"})
    rank = keys.get("rank")
    measured = open_listed(artifact, "label_rate.zarr", 1)
    with of(path / "keys.parquet"):
        rows, n = int(measured.shape[0]), len(keys["id"])
        require(rows == n, f"it has {n} rows, label_rate.zarr has {rows}; remove {path} and run `dvc repro`")
    with reading(path / "label_rate.zarr", "a Zarr array", f"remove {path} and run `dvc repro`"):
        label_rate = np.asarray(measured[:])
    with of(path):
        return Features(
            vectors=open_listed(artifact, "vectors.zarr", 2),
            logits=open_listed(artifact, "logits.zarr", 2),
            label_rate=label_rate if rank is None else np.where(rank >= 0, label_rate, np.inf),
            ids=keys["id"],
            labels=keys["label"],
            rank=rank,
        )
