"""A selection: one small Parquet file, in pick order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcpipe.store.artifact import open_artifact
from dcpipe.store.columns import read_columns, write_columns
from dcpipe.store.documents import Open, Text, checked, of
from dcpipe.store.manifest import MANIFEST
from dcpipe.types import Selection

PICKS = "picks.parquet"


class _Meta(Open):
    method: Text


def save_selection(folder: Path, selection: Selection) -> dict[str, Any]:
    """Write `picks.parquet` and return the metadata to publish it with."""
    write_columns(folder / PICKS, {"id": selection.ids, "label": selection.labels, "gain": selection.gains})
    return {"method": selection.method}


def load_selection(path: Path) -> Selection:
    """The selection of an artifact `selection`, in pick order."""
    artifact = open_artifact(path, "selection")
    picks = artifact.file(PICKS)
    columns = read_columns(picks, {"id": "int64", "label": "int64", "gain": "float64"})
    meta = checked(_Meta, artifact.meta, path / MANIFEST, f"remove {path} and run `dvc repro`", "in meta")
    with of(picks):
        return Selection(columns["id"], columns["label"], columns["gain"], meta.method)
