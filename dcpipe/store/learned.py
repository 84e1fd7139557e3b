"""What a synthesis method learned beside the images: `learned.safetensors` in an artifact `synthesis`, if there is any.

Arrays: `logits` f32 [n, c], labels that hold for all views of an image; `rate` f32 [], the step size of students.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcpipe.store import tensors
from dcpipe.store.artifact import Artifact
from dcpipe.types import require

LEARNED = "learned.safetensors"
Array = npt.NDArray[np.float32]
_SHAPES = {"logits": 2, "rate": 0}  # axes of each array


def save_learned(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays, if there are any."""
    if arrays:
        tensors.write(folder / LEARNED, {name: np.atleast_1d(array) for name, array in arrays.items()}, {})


def load_learned(artifact: Artifact) -> dict[str, Array]:
    """The arrays by name, empty if there are none. Raises `DataError` for a damaged file."""
    if LEARNED not in artifact.files:
        return {}
    path = artifact.file(LEARNED)
    found, _ = tensors.read(path)
    valid = all(
        name in _SHAPES and array.dtype == np.float32 and array.ndim == max(1, _SHAPES[name])
        for name, array in found.items()
    )
    sound = valid and all(bool(np.isfinite(array).all()) for array in found.values())
    require(sound, f"{path} has other arrays than finite logits and a rate in f32; pull or rebuild it")
    return {name: array if _SHAPES[name] else array.reshape(()) for name, array in found.items()}


def learned_rate(artifact: Artifact) -> float | None:
    """The step size that was learned with the images, if one was. Raises `DataError` as `load_learned` does."""
    rate = load_learned(artifact).get("rate")
    return None if rate is None else float(rate)
