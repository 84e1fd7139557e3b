"""A teacher: its weights in safetensors, everything else in the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from dcpipe.store.artifact import open_artifact
from dcpipe.store.files import replacing
from dcpipe.types import Teacher

WEIGHTS = "weights.safetensors"


def save_teacher(folder: Path, teacher: Teacher, name: str = WEIGHTS) -> dict[str, Any]:
    """Write the weights to the file `name` and return the metadata to publish them with."""
    weights = {key: tensor.contiguous() for key, tensor in teacher.weights.items()}
    with replacing(folder / name) as partial:
        save_file(weights, partial)
    return {
        "network": teacher.network,
        "classes": list(teacher.classes),
        "mean": list(teacher.mean),
        "std": list(teacher.std),
        "size": teacher.size,
        "accuracy": teacher.accuracy,
    }


def load_teacher(path: Path) -> Teacher:
    """The teacher of an artifact `teacher`, with its weights on the CPU."""
    return read_teacher(path / WEIGHTS, open_artifact(path, "teacher").meta)


def read_teacher(path: Path, meta: Mapping[str, Any]) -> Teacher:
    """A teacher from its weights file and the metadata that `save_teacher` returned."""
    return Teacher(
        network=meta["network"],
        weights=load_file(path),
        classes=tuple(meta["classes"]),
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
        size=meta["size"],
        accuracy=meta["accuracy"],
    )
