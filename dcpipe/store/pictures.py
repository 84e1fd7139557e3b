"""Encoded images of any origin, opened safely: a list of formats, and a limit on pixels that is checked before any of
them is decoded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from dcpipe.types import DataError, require

# The limit from which Pillow suspects a decompression bomb: a quarter of a gibibyte as RGB.
MAX_PIXELS = 1024**3 // 4 // 3
# The formats that Pillow decodes itself (a JPEG of several pictures is one of them). Some others hand the file to
# another program: EPS starts Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def open_image(
    data: bytes,
    name: str,
    remedy: str = "replace or remove it",
    size: tuple[int, int] | None = None,
    at_least: int | None = None,
) -> Image.Image:
    """An image as it is stored, wholly decoded; `name` and `remedy` are for the message.

    With `at_least`, a JPEG may be decoded to a half, a quarter or an eighth of its sides, as long as both keep this
    number of pixels. libjpeg then computes only the low frequencies of each block, which takes less time.

    Raises `DataError` for bytes in none of `FORMATS`, for damaged ones, for more than `MAX_PIXELS`, and for another
    (width, height) than `size` where that is given.
    """
    with _guarded(data, name, remedy):
        image = _opened(data, name)
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        if size is not None and size != image.size:
            found, others = (f"{width}x{height}" for width, height in (image.size, size))
            raise DataError(f"image {name} is {found}, others are {others}; {remedy}")
        image.load()
        return image


def size_of(data: bytes, name: str, remedy: str) -> tuple[int, int]:
    """(width, height) from the image's header, with the errors of `open_image`; nothing is decoded."""
    with _guarded(data, name, remedy):
        return _opened(data, name).size


def _opened(data: bytes, name: str) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    require(image.width * image.height <= MAX_PIXELS, _bomb(name))
    return image


def _bomb(name: str) -> str:
    return f"image {name} has more than {MAX_PIXELS:,} pixels; shrink or remove it"


@contextmanager
def _guarded(data: bytes, name: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(_bomb(name)) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"corrupt image {name}: its {len(data)} bytes are none of the formats {', '.join(FORMATS)}; {remedy}"
        ) from error
    except Exception as error:  # every format of Pillow raises different errors
        raise corrupt(name, error, remedy) from error


def corrupt(name: str, error: Exception, remedy: str) -> DataError:
    """The error for an image that cannot be decoded."""
    return DataError(f"corrupt image {name}: {error or type(error).__name__}; {remedy}")
