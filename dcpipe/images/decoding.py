"""Decode files to pixels: any file that Pillow reads becomes u8 [size, size, 3], equal on all machines and threads.

1. Orientation: the EXIF tag is applied. (torchvision's loaders ignore it, so photographs may appear sideways there.)
2. Colour: palette, grey, CMYK and similar modes become RGB. 16-bit grey v becomes round(v / 257). Transparent images
   are drawn on white, the background that most of them were made for; dropping the alpha channel instead would show
   arbitrary hidden colours.
3. Size: the central square of the shorter side is cut out, then resized to size x size by antialiased bicubic
   interpolation (a = -1/2, as in Pillow). Except for a rim half a kernel wide, this equals "resize the shorter side,
   then crop the centre". It avoids the long intermediate image that a picture of 1 x 100,000 pixels would need. It also
   gives the same result in all versions of Pillow: Pillow 13 chooses the order of its two rounding passes by the shape
   of the image, older versions do not, and for squares the two agree. An image of size x size is not changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcpipe.store.pictures import corrupt, open_image
from dcpipe.types import DataError, IntArray, require

Pixels = npt.NDArray[np.uint8]
Result = TypeVar("Result")

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CHUNK = 64  # images that a thread takes at once: enough to hide the overhead of the pool for tiny images
_THREADS = min(16, os.cpu_count() or 1)


def decode(data: bytes, size: int, name: str) -> Pixels:
    """Pixels u8 [size, size, 3] of one encoded image; `name` identifies it in error messages.

    Raises `DataError` if the bytes are not an image, if the image is truncated or absurdly large, and if its mode has
    no fixed range.
    """
    return fit(open_rgb(data, name), size)


def open_rgb(data: bytes, name: str) -> Image.Image:
    """The whole image at its original resolution, upright, in mode RGB; raises the errors of `decode`."""
    image = open_image(data, name)
    try:
        return _to_rgb(_upright(image), name)
    except DataError:
        raise
    except Exception as error:  # every format of Pillow raises different errors
        raise corrupt(name, error, "replace or remove it") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        transpose = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # an intact image with damaged EXIF data (ImageNet has some) has no known orientation
        return image
    return image if transpose is None else image.transpose(transpose)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        is_16_bit = values.dtype.kind in "iu" and bool((values >= 0).all() and (values <= 65535).all())
        require(is_16_bit, f"image {name} has mode {image.mode!r}, beyond 16-bit grey; convert it to 8 or 16 bits")
        return Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def fit(image: Image.Image, size: int) -> Pixels:
    """The central square of an RGB image as u8 [size, size, 3]."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image if image.width == image.height else image.crop((left, top, left + short, top + short))
    if short != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(square)


def named(path: str, image_id: int) -> str:
    """The name of an image in error messages."""
    return f"{path} (id {image_id})"


def in_threads(work: Callable[[slice], Result], n: int) -> list[Result]:
    """The results of `work` on all chunks of range(n), in order, computed in threads; decoding releases the GIL."""
    chunks = [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return list(pool.map(work, chunks))


def decode_into(out: Pixels, encoded: Sequence[tuple[bytes, str]], ids: IntArray) -> None:
    """Decode m encoded images into `out` u8 [m, s, s, 3]. The error for a corrupt image contains its id."""

    def work(chunk: slice) -> None:
        for row in range(chunk.start, chunk.stop):
            data, path = encoded[row]
            out[row] = decode(data, out.shape[1], named(path, int(ids[row])))

    in_threads(work, len(encoded))
