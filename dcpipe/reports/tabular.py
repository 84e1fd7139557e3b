"""Rows of scores and label spectra for CSV and JSON files, which `dvc metrics show` and `dvc plots show` read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from dcpipe.store.files import replacing
from dcpipe.types import FloatArray, IntArray, Score, SoftLabels

SPECTRUM_IMAGES = 256


def score_rows(scores: Sequence[Score], reference_bytes: int) -> list[dict[str, Any]]:
    """One row per score: mean and standard deviation over seeds, all byte counts, and the size of the labels in
    fp16, which those of all training images do not have."""
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
            "fp16_label_bytes": 0 if score.on_all_images else reference_bytes,
            "teacher_bytes": score.teacher_bytes,
            "total_bytes": score.total_bytes,
        }
        for score in scores
    ]


def size_rows(entry: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """One row per size of a set, ascending, and a last row with the average: mean and standard deviation over seeds,
    where each seed counts with its mean over the sizes."""
    ordered = sorted(scores, key=lambda score: score.ipc)
    means = np.mean([score.accuracy for score in ordered], axis=0)
    average = replace(ordered[-1], accuracy=tuple(means.tolist()))
    sizes = [*((score.ipc, score) for score in ordered), ("average", average)]
    return [
        {"entry": entry, "size": size, "accuracy": round(score.mean, 2), "std": round(score.std, 2)}
        | {"seeds": len(score.accuracy)}
        for size, score in sizes
    ]


def metrics(
    scores: Mapping[str, Score],
    teachers: Mapping[str, Mapping[str, float]],
    averages: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """A small tree of numbers for `dvc metrics` and `dvc exp show`, which show one column for each; the tables have the
    rest.

    Args:
        scores: the rows by kind; the condensed set comes first and is named `set`.
        teachers: accuracies by split, by teacher.
        averages: accuracies over all sizes by kind, if there are several sizes.
    """
    own = next(iter(scores))

    def named(values: Mapping[str, float]) -> dict[str, float]:
        return {"set" if kind == own else kind.replace(" ", "_"): round(value, 2) for kind, value in values.items()}

    tested = {name: by_split.get("test", next(iter(by_split.values()))) for name, by_split in teachers.items()}
    return {
        "accuracy": named({kind: score.mean for kind, score in scores.items()}),
        "std": named({kind: score.std for kind, score in scores.items()})["set"],
        "bytes": {"labels": scores[own].label_bytes, "total": scores[own].total_bytes},
        "teacher": {name: round(value, 2) for name, value in tested.items()},
        **({"average": named(averages)} if averages else {}),
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header and `\\n` as line end."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as partial:  # `path` may be a link into DVC's cache
        partial.write_text(text.getvalue(), encoding="utf-8")


def spectra(labels: SoftLabels) -> list[dict[str, float]]:
    """How low the rank of the labels of the first `SPECTRUM_IMAGES` images is; SCORE's R_C selects for a low rank."""
    return spectrum(relative_values(labels, np.arange(min(SPECTRUM_IMAGES, len(labels.ids)))))


def spectrum(values: FloatArray) -> list[dict[str, float]]:
    """One row per component: quantiles over images of `values`, which come from `relative_values`."""
    quantiles = np.quantile(values, [0.1, 0.5, 0.9], axis=0).T
    return [
        {"component": index + 1, "p10": float(low), "median": float(middle), "p90": float(high)}
        for index, (low, middle, high) in enumerate(quantiles)
    ]


def relative_values(labels: SoftLabels, rows: IntArray) -> FloatArray:
    """Singular values of the logits of some images, relative to the largest one of each: f64 [len(rows), min(K, c)]."""
    import torch  # takes seconds, and tables need none of it

    parts = []
    for start in range(0, len(rows), 32):
        block = np.stack([labels.logits[int(row)] for row in rows[start : start + 32]]).astype(np.float64)
        values = torch.linalg.svdvals(torch.from_numpy(block)).numpy()
        parts.append(values / np.maximum(values[:, :1], 1e-12))
    return np.concatenate(parts)


def ranks(values: FloatArray, share: float) -> IntArray:
    """The number of components that contain `share` of the energy (the sum of squares), per row of singular values."""
    energy = np.cumsum(values**2, axis=1)
    counts: IntArray = (energy < share * energy[:, -1:]).sum(axis=1) + 1
    return counts
