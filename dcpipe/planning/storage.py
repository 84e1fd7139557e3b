"""Bytes of soft labels by images per class and ratio, from the parameters alone (SCORE, supplement, Table 3).

Uncompressed labels take 4 (fp32) or 2 (fp16) bytes per stored image, cell, view and class. SCORE's ratios are to fp32.
Packed files at such a ratio are smaller than or equal to these bytes, header included, if the codec reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from dcpipe.config import budget
from dcpipe.config.params import Params
from dcpipe.reports.columns import size, table_of, text
from dcpipe.types import require

RATIOS = (10, 20, 30, 40)  # SCORE's, to fp32
IPC = (1, 10, 50, 100)  # in addition to that of params.yaml


def storage(params: Params, n_classes: int, ratios: Sequence[float] = RATIOS) -> list[dict[str, Any]]:
    """One row per number of images per class: `views`, bytes of the labels in `fp32` and `fp16`, and `10x` and so on to
    fp32, rounded down. Raises `DataError` where params.yaml stores no labels."""
    require(
        params.softlabels.method == "stored",
        f"softlabels.method is {params.softlabels.method}: no labels are stored; choose stored, or leave --storage out",
    )
    rows = []
    for ipc in sorted({*IPC, params.selection.ipc}):
        block = params.selection.model_copy(update={"ipc": ipc})
        shape = budget.label_shape(params.model_copy(update={"selection": block}), n_classes)
        fp32 = shape.budget(ratio=1, reference="fp32")
        packed = {f"{ratio:g}x": shape.budget(ratio=ratio, reference="fp32") for ratio in ratios}
        rows.append({"ipc": ipc, "views": shape.views, "fp32": fp32, "fp16": shape.reference_bytes, **packed})
    return rows


def table(params: Params, n_classes: int) -> Table:
    """The rows of `storage` for the terminal."""
    rows = storage(params, n_classes)
    shown = [{key: str(value) for key, value in row.items()} for row in rows]
    columns = [text("ipc"), text("views"), *(size(key, key) for key in list(rows[0])[2:])]
    title = f"{params.release.name}: bytes of the soft labels, {n_classes:,} classes; ratios are to fp32"
    return table_of(title, shown, columns)
