"""File bytes to pixels: any file Pillow reads becomes u8 [size, size, 3], the same on every machine and thread.

1. Orientation: the EXIF tag is applied (torchvision's loaders ignore it, so their sideways photographs stay so).
2. Colour: palette, grey, CMYK and the like become RGB; 16-bit grey v becomes round(v / 257); transparency is laid
   over white, the page most such drawings were made for (merely dropping alpha shows whatever colour lay hidden).
3. Size: the central square of the shorter side, then antialiased bicubic (a = -1/2, Pillow's) to size x size. This
   is "resize the shorter side, then crop the centre" up to a rim half a kernel wide, without the long intermediate
   image that a 1 x 100,000 picture would need; and Pillow 13 orders its two rounding passes by the image's shape,
   older ones do not: squares come out the same. An image that is size x size already keeps its pixels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dcpipe.types import DataError, IntArray, require

Pixels = npt.NDArray[np.uint8]
Result = TypeVar("Result")

# Where Pillow begins to suspect a decompression bomb: a quarter of a gibibyte as RGB.
MAX_PIXELS = 1024**3 // 4 // 3
# The formats that Pillow decodes itself (a JPEG of several pictures is one of them). Some others hand the file to
# another program: EPS starts Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
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
_CHUNK = 64  # images a thread takes at once: enough to hide the pool's own cost for tiny ones
_THREADS = min(16, os.cpu_count() or 1)


def decode(data: bytes, size: int, name: str) -> Pixels:
    """Pixels u8 [size, size, 3] of one encoded image; `name` is what errors call it.

    Raises `DataError` when the bytes are no image, cut short, absurdly large or of a mode without a fixed range.
    """
    return fit(open_rgb(data, name), size)


def open_rgb(data: bytes, name: str) -> Image.Image:
    """The whole image at its own resolution, upright, in mode RGB; errors as `decode`."""
    bomb = f"image {name} has more than {MAX_PIXELS:,} pixels; shrink or remove it"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            require(width * height <= MAX_PIXELS, bomb)
            image.load()
            return _to_rgb(_upright(image), name)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(bomb) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"corrupt image {name}: its {len(data)} bytes are none of the formats {', '.join(FORMATS)}; replace or "
            "remove it"
        ) from error
    except Exception as error:  # each of Pillow's formats fails with errors of its own kind
        raise DataError(f"corrupt image {name}: {error or type(error).__name__}; replace or remove it") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF in a sound image (ImageNet has some) says nothing of its orientation
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        whole = values.dtype.kind in "iu" and bool((values >= 0).all() and (values <= 65535).all())
        require(whole, f"image {name} has mode {image.mode!r} beyond 16-bit grey; convert it to 8 or 16 bits")
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
    """What errors call an image."""
    return f"{path} (id {image_id})"


def in_threads(work: Callable[[slice], Result], n: int) -> list[Result]:
    """`work` of every chunk of range(n), in order; Pillow lets go of the interpreter lock while it decodes."""
    chunks = [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return list(pool.map(work, chunks))


def decode_into(out: Pixels, encoded: Sequence[tuple[bytes, str]], ids: IntArray) -> None:
    """Decode m encoded images into `out` u8 [m, s, s, 3]; a corrupt one is named with its id."""

    def work(chunk: slice) -> None:
        for row in range(chunk.start, chunk.stop):
            data, path = encoded[row]
            out[row] = decode(data, out.shape[1], named(path, int(ids[row])))

    in_threads(work, len(encoded))
