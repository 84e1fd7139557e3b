"""The ZCA transform that a condensed set was made for, as it is stored beside its images."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

from dcpipe.types.base import DataError, require

LARGEST = 64  # side in pixels; the matrix of larger images would have gigabytes
_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Whitening:
    """x' = (x - mean) W, for images x in [0, 1] as vectors of d = 3 s^2 numbers in the order channel, row, column.

    `mean` f32 [d]; `matrix` f32 [d, d] is W, which is symmetric; `eps` is what was added to the eigenvalues of the
    covariance. `dcpipe.views.whitening` fits and applies it. Raises `DataError` for other shapes.
    """

    mean: _Array
    matrix: _Array
    eps: float

    def __post_init__(self) -> None:
        d = len(self.mean)
        require(
            d == 3 * self.size**2 and self.size > 0 and self.matrix.shape == (d, d),
            f"whitening: a mean of {d} numbers and a matrix of shape {list(self.matrix.shape)} are not those of square "
            "images; fit it again",
        )

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return isqrt(len(self.mean) // 3)


def matrix_bytes(size: int) -> int:
    """Bytes of W in float32 for images of `size` pixels."""
    return 4 * (3 * size**2) ** 2


def check_whitened_size(size: int) -> None:
    """Raises `DataError` for images whose matrix would be unreasonably large."""
    if size > LARGEST:
        raise DataError(
            f"whitening: the matrix for images of {size} x {size} pixels has {matrix_bytes(size):,} bytes; leave "
            f"whitening out, or set images.size to {LARGEST} or less"
        )
