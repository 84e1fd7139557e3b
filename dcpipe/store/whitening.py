"""The ZCA transform of a condensed set: `whitening.safetensors` in an artifact `synthesis` and in its release.

Arrays: `mean` f32 [d] and `matrix` f32 [d (d + 1) / 2], the upper triangle of the symmetric matrix, row by row, which
halves its bytes. The metadata has `eps`.
"""

from __future__ import annotations

import math
from math import isqrt
from pathlib import Path

import numpy as np

from dcpipe.store import tensors
from dcpipe.store.artifact import Artifact
from dcpipe.types import LARGEST, Whitening, require

WHITENING = "whitening.safetensors"
_REMEDY = "pull or rebuild it"


def save_whitening(folder: Path, whitening: Whitening) -> None:
    """Write the file."""
    matrix = whitening.matrix
    triangle = np.concatenate([matrix[row, row:] for row in range(len(matrix))])
    arrays = {"mean": whitening.mean.astype(np.float32), "matrix": triangle.astype(np.float32)}
    tensors.write(folder / WHITENING, arrays, {"eps": repr(float(whitening.eps))})


def whitening_file(artifact: Artifact) -> Path | None:
    """The file of an open artifact; None if its images are not whitened."""
    return artifact.file(WHITENING) if WHITENING in artifact.files else None


def read_whitening(path: Path) -> Whitening:
    """The transform in a file. Raises `DataError` for anything but what `save_whitening` writes; the matrix in memory
    takes no more than twice the bytes of the file."""
    found = {name: (entry.dtype, entry.shape) for name, entry in tensors.read_header(path).arrays.items()}
    d = math.prod(found.get("mean", ("", (0,)))[1])
    size = isqrt(d // 3)
    require(
        found == {"mean": ("F32", (d,)), "matrix": ("F32", (d * (d + 1) // 2,))}
        and d == 3 * size**2
        and 1 <= size <= LARGEST,
        f"{path} has other arrays than the mean and matrix of images of at most {LARGEST} pixels; {_REMEDY}",
    )
    arrays, metadata = tensors.read(path)
    try:
        eps = float(metadata.get("eps", ""))
    except ValueError:
        eps = math.nan
    finite = all(bool(np.isfinite(array).all()) for array in arrays.values())
    require(finite and 0 <= eps < math.inf, f"{path} has a number or an eps that is not finite; {_REMEDY}")
    matrix, start = np.zeros((d, d), dtype=np.float32), 0
    for row in range(d):
        part = arrays["matrix"][start : start + d - row]
        matrix[row, row:] = matrix[row:, row] = part
        start += d - row
    return Whitening(arrays["mean"], matrix, eps)
