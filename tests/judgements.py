"""Judgements for tests, made of plain numbers."""

from __future__ import annotations

from typing import Any

from dcpipe.judging.judgement import Data, Judgement, Row

BYTES = {"image_bytes": 22_500, "label_bytes": 49_800, "teacher_bytes": 0, "fp16_label_bytes": 200_000}
NO_LABELS = {"label_bytes": 0, "fp16_label_bytes": 0}


def row(kind: str, accuracy: list[float], student: str = "net", **changes: Any) -> Row:
    """A row of 10 images per class of 10 classes."""
    values: dict[str, Any] = {
        "kind": kind,
        "name": f"set, {kind}",
        "student": student,
        "protocol": "score",
        "ipc": 10,
        "images": 100,
        "epochs": 30,
        "seeds": list(range(len(accuracy))),
        "accuracy": accuracy,
        **BYTES,
        **changes,
    }
    return Row(**values)


def judgement(*rows: Row, **changes: Any) -> Judgement:
    """A judgement on digits."""
    values: dict[str, Any] = {
        "what": "set@v1.0.0",
        "name": "set",
        "digest": "0123456789abcdef",
        "data": Data(source="digits", size=8, classes=10, train=1293, test=359),
        "versions": {"dcpipe": "0.1.0", "torch": "2"},
        "device": "cpu",
        "rows": list(rows),
        **changes,
    }
    return Judgement(**values)
