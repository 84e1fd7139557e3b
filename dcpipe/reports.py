"""What `dvc metrics show` and `dvc plots show` read, and the table people read in the terminal.

Plain rows out of scores, histories and label stores; nothing here decides anything.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import Score, SoftLabels

SPECTRUM_IMAGES = 256


def score_rows(scores: Sequence[Score], reference_bytes: int) -> list[dict[str, Any]]:
    """One row a score: mean and std over seeds, and every byte count beside the fp16 reference of the labels."""
    return [
        {
            "set": score.name,
            "protocol": score.protocol,
            "student": score.student,
            "ipc": score.ipc,
            "seeds": len(score.accuracy),
            "accuracy": round(score.mean, 2),
            "std": round(score.std, 2),
            "image_bytes": score.image_bytes,
            "label_bytes": score.label_bytes,
            "fp16_label_bytes": reference_bytes,
            "teacher_bytes": score.teacher_bytes,
            "total_bytes": score.total_bytes,
        }
        for score in scores
    ]


def metrics(rows: Sequence[Mapping[str, Any]], teachers: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The same rows, by name, for `dvc metrics show` and `dvc metrics diff`."""
    keys = ("accuracy", "std", "seeds", "label_bytes", "total_bytes")
    return {
        "scores": {row["set"]: {key: row[key] for key in keys} for row in rows},
        "teachers": {name: {split: round(value, 2) for split, value in acc.items()} for name, acc in teachers.items()},
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file with a header, `\\n` line ends."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def spectra(labels: SoftLabels) -> list[dict[str, float]]:
    """Singular values of each image's K x C logits relative to the largest, over up to `SPECTRUM_IMAGES` images:
    how low-rank the labels are, which is what SCORE's R_C asks for (its Fig. 3)."""
    values = np.concatenate(list(_relative_values(labels)))
    rows = []
    for index in range(values.shape[1]):
        low, middle, high = np.quantile(values[:, index], [0.1, 0.5, 0.9])
        rows.append({"component": index + 1, "p10": float(low), "median": float(middle), "p90": float(high)})
    return rows


def _relative_values(labels: SoftLabels) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, min(SPECTRUM_IMAGES, len(labels.ids)), 32):
        block = torch.from_numpy(np.asarray(labels.logits[start : start + 32], dtype=np.float64))
        values = torch.linalg.svdvals(block).numpy()
        yield values / np.maximum(values[:, :1], 1e-12)
