"""A teacher: its weights in safetensors, everything else in the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from dcpipe.store.artifact import Artifact, open_artifact
from dcpipe.store.documents import Channels, Classes, Open, Pixels, Text, checked, of, reading
from dcpipe.store.files import replacing
from dcpipe.store.manifest import MANIFEST
from dcpipe.store.tensors import read_header
from dcpipe.types import Teacher

WEIGHTS = "weights.safetensors"
_REMEDY = "pull or rebuild it"


class TeacherMeta(Open):
    """What `save_teacher` says of a teacher."""

    network: str = Field(min_length=1, max_length=200)
    classes: Classes
    mean: Channels
    std: Channels
    size: Pixels
    accuracy: dict[Text, float]
    input_size: Pixels | None = None


def save_teacher(folder: Path, teacher: Teacher, name: str = WEIGHTS) -> dict[str, Any]:
    """Write the weights to the file `name` and return the metadata to publish them with."""
    from safetensors.torch import save_file  # imports torch, which takes seconds

    weights = {key: tensor.contiguous() for key, tensor in teacher.weights.items()}
    with replacing(folder / name) as partial:
        save_file(weights, partial)
    # Left out where images are not resized, so that such teachers keep their digest.
    resized = {} if teacher.input_size is None else {"input_size": teacher.input_size}
    return {
        "network": teacher.network,
        "classes": list(teacher.classes),
        "mean": list(teacher.mean),
        "std": list(teacher.std),
        "size": teacher.size,
        "accuracy": teacher.accuracy,
        **resized,
    }


def load_teacher(path: Path) -> Teacher:
    """The teacher of an artifact `teacher`, with its weights on the CPU."""
    return teacher_of(open_artifact(path, "teacher"))


def teacher_of(artifact: Artifact, *, weights: bool = True) -> Teacher:
    """The teacher of an open artifact `teacher`, with its weights on the CPU; or without them, which takes no torch."""
    teacher = read_teacher(artifact.file(WEIGHTS), artifact.meta, weights=weights)
    return replace(teacher, origin=(str(artifact.path.absolute()), artifact.digest))


def read_teacher(path: Path, meta: Mapping[str, Any], *, weights: bool = True) -> Teacher:
    """A teacher from its weights file and the metadata that `save_teacher` returned, which the manifest next to the
    file holds; raises `DataError` for anything else. Whether the weights are its network's is found out when that is
    built: `networks.from_teacher`."""
    found = checked(TeacherMeta, meta, path.with_name(MANIFEST), _REMEDY, "in its teacher's")
    read_header(path)
    tensors = {}
    if weights:
        from safetensors.torch import load_file

        with reading(path, "safetensors", _REMEDY):
            tensors = load_file(path)
    with of(path):
        return Teacher(
            network=found.network,
            weights=tensors,
            classes=tuple(found.classes),
            mean=tuple(meta["mean"]),
            std=tuple(meta["std"]),
            size=found.size,
            accuracy=meta["accuracy"],
            input_size=found.input_size,
        )
