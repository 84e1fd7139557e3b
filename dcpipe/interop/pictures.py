"""Image files of another project, at their original size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dcpipe.images.decoding import open_rgb
from dcpipe.types import require


def squares(files: Sequence[tuple[bytes, str]], remedy: str) -> npt.NDArray[np.uint8]:
    """The pixels u8 [n, s, s, 3] of encoded images, given as bytes and names.

    Raises `DataError`, which names an image, if images are not square or not all of one size; `remedy` ends the first.
    """
    pixels = [np.asarray(open_rgb(data, name)) for data, name in files]
    height, width = pixels[0].shape[:2]
    require(height == width, f"image {files[0][1]} is {width}x{height}; {remedy}")
    for (_, name), image in zip(files, pixels, strict=True):
        shape = f"{image.shape[1]}x{image.shape[0]}"
        require(image.shape == pixels[0].shape, f"image {name} is {shape}, others are {width}x{height}; give one size")
    return np.stack(pixels)
