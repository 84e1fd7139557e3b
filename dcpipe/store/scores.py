"""The scores of an evaluation, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from dcpipe.store.artifact import open_artifact
from dcpipe.store.documents import Size, Strict, Text, checked, of, parse, read_bytes
from dcpipe.store.files import replacing
from dcpipe.types import Score

SCORES = "scores.json"
MAX_BYTES = 16 * 2**20
_REMEDY = "pull or rebuild it"


class _Row(Strict):
    name: Text
    protocol: Text
    student: Text
    ipc: Size
    accuracy: list[float] = Field(min_length=1, max_length=10_000)
    image_bytes: Size
    label_bytes: Size
    teacher_bytes: Size = 0
    epochs: Size = 0


class _Rows(Strict):
    rows: list[_Row] = Field(max_length=100_000)


def save_scores(folder: Path, scores: Sequence[Score]) -> dict[str, Any]:
    """Write `scores.json` and return the metadata to publish it with."""
    rows = [asdict(score) for score in scores]
    with replacing(folder / SCORES) as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return {"rows": len(rows)}


def load_scores(path: Path) -> list[Score]:
    """The scores of an artifact `scores`."""
    return read_scores(open_artifact(path, "scores").file(SCORES))


def read_scores(path: Path) -> list[Score]:
    """Scores from the file that `save_scores` wrote; raises `DataError` for anything else."""
    rows = parse(read_bytes(path, MAX_BYTES, _REMEDY), path, _REMEDY)
    checked(_Rows, {"rows": rows}, path, _REMEDY)
    with of(path):
        return [Score(**{**row, "accuracy": tuple(row["accuracy"])}) for row in rows]
