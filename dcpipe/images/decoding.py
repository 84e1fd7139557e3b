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

`Decoding` changes the last step. With `decoder: draft`, libjpeg decodes a JPEG to a half, a quarter or an eighth of its
sides if both keep the size that is needed, and this is resized. With `decoder: fast`, PyTorch resizes it: by the same
rule, but with other rounding, so that a value may differ by one level from Pillow's, and from those of another kind of
processor. (TorchVision decodes a JPEG to the same pixels in less time than Pillow, but that function will be removed.)
With `centre` c, the square has the side c times the shorter one: 0.875 is "resize the shorter side to 256, crop 224
from the centre".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcpipe.store.pictures import corrupt, open_image
from dcpipe.types import EXACT, DataError, Decoding, IntArray, require

Pixels = npt.NDArray[np.uint8]
Encoded = Sequence[tuple[bytes, str]]  # the bytes of files and their paths in the source
# Decodes images with their ids i64 [m] into pixels u8 [m, s, s, 3].
DecodeSome = Callable[[Pixels, Encoded, IntArray], None]
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


def decode(data: bytes, size: int, name: str, decoding: Decoding = EXACT) -> Pixels:
    """Pixels u8 [size, size, 3] of one encoded image; `name` identifies it in error messages.

    Raises `DataError` if the bytes are not an image, if the image is truncated or absurdly large, and if its mode has
    no fixed range.
    """
    decoder, centre = decoding
    needed = ceil(size / centre)
    if decoder == "exact":
        return fit(open_rgb(data, name), size, centre)
    if decoder == "draft":
        return fit(open_rgb(data, name, at_least=needed), size, centre)
    return fit_fast(np.asarray(open_rgb(data, name, at_least=needed)), size, centre)


def open_rgb(data: bytes, name: str, at_least: int | None = None) -> Image.Image:
    """The whole image, upright, in mode RGB; raises the errors of `decode`. At its original resolution, unless
    `at_least` allows less (`open_image`)."""
    image = open_image(data, name, at_least=at_least)
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


def fit(image: Image.Image, size: int, centre: float = 1.0) -> Pixels:
    """The central square of an RGB image as u8 [size, size, 3]; its side is `centre` times the shorter one."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image if image.width == image.height else image.crop((left, top, left + short, top + short))
    if centre < 1:
        margin = short * (1 - centre) / 2
        box = (margin, margin, short - margin, short - margin)
        return np.array(square.resize((size, size), Image.Resampling.BICUBIC, box=box))
    if short != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(square)


def fit_fast(image: Pixels, size: int, centre: float = 1.0) -> Pixels:
    """As `fit`, of u8 [h, w, 3], but resized by PyTorch, and cut out at whole pixels."""
    import torch
    import torch.nn.functional as F

    short = min(image.shape[:2])
    side = short - 2 * round(short * (1 - centre) / 2)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = np.array(image[top : top + side, left : left + side], order="C")
    if side == size:
        return square
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    resized: Pixels = small[0].permute(1, 2, 0).contiguous().numpy()
    return resized


def named(path: str, image_id: int) -> str:
    """The name of an image in error messages."""
    return f"{path} (id {image_id})"


def in_threads(work: Callable[[slice], Result], n: int) -> list[Result]:
    """The results of `work` on all chunks of range(n), in order, computed in threads; decoding releases the GIL."""
    chunks = [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return list(pool.map(work, chunks))


def decode_squares(out: Pixels, encoded: Encoded, ids: IntArray, decoding: Decoding = EXACT) -> None:
    """Decode a few images into `out` u8 [m, s, s, 3]. The error for a corrupt image contains its id."""
    for row, (data, path) in enumerate(encoded):
        out[row] = decode(data, out.shape[1], named(path, int(ids[row])), decoding)


def decode_into(out: Pixels, encoded: Encoded, ids: IntArray, decode_some: DecodeSome = decode_squares) -> None:
    """Decode m encoded images into `out` u8 [m, s, s, 3] in threads, a few images at a time by `decode_some`."""

    def work(chunk: slice) -> None:
        decode_some(out[chunk], encoded[chunk], ids[chunk])

    in_threads(work, len(encoded))
