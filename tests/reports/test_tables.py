"""The score table: what rows share is in its title, and the upper bound stands apart."""

from __future__ import annotations

import io

from rich.console import Console

from dcpipe.reports.tables import score_table
from dcpipe.types import ALL_IMAGES_PROTOCOL, Score

SET = Score("score, rpca", "score", "net", 10, (98.0, 98.2), 22_500, 49_800, epochs=100)
UPPER = Score("all training images", ALL_IMAGES_PROTOCOL, "net", 129, (99.4, 99.6), 293_000, 0, epochs=12)
LABELS = {"images": 100, "views": 100, "classes": 10}


def shown(*scores: Score) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(score_table(scores, LABELS))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_upper_bound_changes_no_column_and_is_explained_below() -> None:
    text = shown(SET, UPPER)
    assert "protocol score, student net, epochs 100, ipc 10" in text
    [columns] = [line.split() for line in text.splitlines() if line.strip().startswith("set")]
    assert columns == ["set", "accuracy", "images", "labels", "teacher", "total"]
    [row] = [line for line in text.splitlines() if line.strip().startswith("all training images ")]
    assert "99.5 ± 0.1" in row and "293.0 kB" in row
    assert "all training images: 129 per class, their classes as labels, 12 epochs" in " ".join(text.split())
    assert "all training images" not in shown(SET)
    assert "99.5" in shown(UPPER), "also alone"


def test_what_differs_has_a_column() -> None:
    other = Score("random, rpca", "score", "other-net", 5, (50.0,), 1, 1, epochs=100)
    text = shown(SET, other, UPPER)
    [columns] = [line.split() for line in text.splitlines() if line.strip().startswith("set")]
    assert columns[:3] == ["set", "student", "ipc"] and "protocol" not in columns
