"""The scores of an evaluation, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcpipe.store.artifact import open_artifact
from dcpipe.store.files import replacing
from dcpipe.types import Score

SCORES = "scores.json"


def save_scores(folder: Path, scores: Sequence[Score]) -> dict[str, Any]:
    """Write `scores.json` and return the metadata to publish it with."""
    rows = [asdict(score) for score in scores]
    with replacing(folder / SCORES) as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return {"rows": len(rows)}


def load_scores(path: Path) -> list[Score]:
    """The scores of an artifact `scores`."""
    open_artifact(path, "scores")
    return read_scores(path / SCORES)


def read_scores(path: Path) -> list[Score]:
    """Scores from the file that `save_scores` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Score(**{**row, "accuracy": tuple(row["accuracy"])}) for row in rows]
