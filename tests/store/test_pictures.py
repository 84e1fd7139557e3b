"""Images of any origin: what is opened, and what is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dcpipe.store.pictures import FORMATS, MAX_PIXELS, open_image, size_of
from dcpipe.types import DataError


def encoded(form: str, width: int = 4, height: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (10, 20, 30)).save(stream, form)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims many pixels."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@pytest.mark.parametrize("form", FORMATS)
def test_formats_that_are_read(form: str) -> None:
    image = open_image(encoded(form), "x")
    assert image.size == size_of(encoded(form), "x", "mend it") == (4, 3)
    assert np.asarray(image.convert("RGB")).shape == (3, 4, 3)


@pytest.mark.parametrize("form", ["EPS", "PDF", "ICO", "TGA", "SGI"])
def test_other_formats_are_refused_whatever_their_name(form: str) -> None:
    with pytest.raises(
        DataError, match=r"corrupt image x.png: its [0-9]+ bytes are none of the formats BMP, GIF, JPEG"
    ):
        open_image(encoded(form), "x.png")


@pytest.mark.parametrize("side", [12_000, 20_000, 2**31 - 1])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_not_decoded(side: int) -> None:
    with pytest.raises(DataError, match=f"image x has more than {MAX_PIXELS:,} pixels; shrink or remove it"):
        open_image(bomb(side, side), "x")
    with pytest.raises(DataError, match="image x has more than"):
        size_of(bomb(side, side), "x", "mend it")


def test_an_image_of_another_size_is_not_decoded() -> None:
    with pytest.raises(DataError, match=r"^image x is 4x3, others are 5x5; pull it again$"):
        open_image(encoded("PNG"), "x", "pull it again", (5, 5))
    assert open_image(encoded("PNG"), "x", "pull it again", (4, 3)).size == (4, 3)


@pytest.mark.parametrize("cut", [0, 1, 20, 50, -1])
def test_damaged_bytes_are_named(cut: int) -> None:
    with pytest.raises(DataError, match=r"^corrupt image x: .*; pull it again$"):
        open_image(encoded("JPEG")[:cut] if cut != -1 else encoded("PNG")[:-30], "x", "pull it again")
