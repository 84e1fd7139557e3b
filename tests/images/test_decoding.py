"""File bytes to pixels, against a slow reference and hand-made files of every mode."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dcpipe import images
from dcpipe.images import decoding
from dcpipe.types import DataError, Decoding


def noise(h, w, channels=3, seed=0):
    shape = (h, w, channels) if channels > 1 else (h, w)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def reference_square(pixels, size):
    """Antialiased bicubic of the central square in float64: across, rounded to u8 as Pillow does, then down."""
    height, width, _ = pixels.shape
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels[top : top + short, left : left + short].astype(np.float64)
    if short == size:
        return square

    def kernel(x):
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    scale = short / size
    weights = np.zeros((size, short))
    for out in range(size):
        for source in range(short):
            weights[out, source] = kernel((source + 0.5 - (out + 0.5) * scale) / max(scale, 1.0))
    weights /= weights.sum(axis=1, keepdims=True)
    wide = np.clip(np.floor(np.einsum("ow,hwc->hoc", weights, square) + 0.5), 0, 255)
    return np.clip(np.einsum("oh,hwc->owc", weights, wide), 0, 255)


@settings(deadline=None, max_examples=25)
@given(h=st.integers(1, 30), w=st.integers(1, 30), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_any_size_is_the_central_square_by_antialiased_bicubic(h, w, size, seed):
    pixels = noise(h, w, seed=seed)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    got = images.decode(buffer.getvalue(), size, "x.png")
    assert got.shape == (size, size, 3)
    assert got.dtype == np.uint8
    # Half a level of rounding; a tie in the first pass, which fixed-point weights may break otherwise, adds up to 1.3.
    np.testing.assert_allclose(got, reference_square(pixels, size), atol=2.0)


def test_an_image_of_the_right_size_keeps_its_pixels(png):
    pixels = noise(17, 17)
    np.testing.assert_array_equal(images.decode(png(pixels), 17, "x.png"), pixels)


def test_pixels_are_writable_and_owned(png):
    images.decode(png(noise(4, 4)), 4, "x.png")[0, 0] = 1


def test_a_very_long_image_needs_no_long_intermediate(png):
    got = images.decode(png(np.full((1, 60_000, 3), 7, np.uint8)), 64, "long.png")
    assert got.shape == (64, 64, 3)
    assert (got == 7).all()


def test_grey_palette_and_one_bit(png):
    grey = noise(5, 5, 1)
    np.testing.assert_array_equal(images.decode(png(grey), 5, "l"), np.repeat(grey[:, :, None], 3, axis=2))
    palette = Image.fromarray(noise(5, 5)).quantize(7)
    np.testing.assert_array_equal(images.decode(png(palette), 5, "p"), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(images.decode(png(bits), 5, "1")[..., 0], np.where(grey > 127, 255, 0))


def test_sixteen_bit_grey_is_scaled_not_clipped(png):
    values = np.array([[0, 128], [129, 65535]], dtype=np.uint16)
    got = images.decode(png(values), 2, "i16")
    np.testing.assert_array_equal(got[..., 1], [[0, 0], [1, 255]])
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.floor(every / 257 + 0.5)  # 257 is odd: no ties
    np.testing.assert_array_equal(images.decode(png(every), 256, "i16")[..., 0], expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(png, mode):
    drawn = Image.new(mode, (3, 3), (10, 20, 30, 0) if mode == "RGBA" else (10, 0))
    drawn.putpixel((1, 1), (10, 20, 30, 255) if mode == "RGBA" else (10, 255))
    drawn.putpixel((0, 0), (0, 0, 0, 51) if mode == "RGBA" else (0, 51))
    got = images.decode(png(drawn), 3, "a")
    assert got[2, 2].tolist() == [255, 255, 255]
    assert got[1, 1].tolist() == ([10, 20, 30] if mode == "RGBA" else [10, 10, 10])
    assert got[0, 0].tolist() == [204, 204, 204]


def test_transparent_palette_lies_over_white(png):
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 1), 1)
    got = images.decode(png(palette, transparency=b"\x00\xff"), 2, "p")
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[1, 1].tolist() == [0, 200, 0]


def test_cmyk_jpeg_becomes_rgb(png):
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # full magenta and yellow: red
    got = images.decode(png(ink, "JPEG", quality=100), 8, "cmyk")
    assert np.abs(got.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(png, orientation):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)[..., None].repeat(3, axis=2) * 40
    # How a camera held that way would have stored the upright picture (EXIF 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = png(np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(np.asarray(decoding.open_rgb(data, "x")), upright)


def test_damaged_exif_does_not_condemn_a_sound_image(png):
    pixels = noise(4, 4)
    data = png(pixels, exif=b"Exif\x00\x00garbage-that-is-no-tiff-header")
    np.testing.assert_array_equal(images.decode(data, 4, "x"), pixels)


def test_not_an_image():
    with pytest.raises(DataError, match=r"^corrupt image a/b\.jpg \(id 7\): its 9 bytes are none of the formats BMP, "):
        images.decode(b"<html></>", 8, decoding.named("a/b.jpg", 7))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(png, kind, share):
    data = png(noise(64, 64), kind)
    with pytest.raises(DataError, match=r"^corrupt image cut \(id 3\): .+; replace or remove it$"):
        images.decode(data[: int(len(data) * share)], 64, decoding.named("cut", 3))


def test_flipped_bytes_in_a_png_are_found(png):
    data = bytearray(png(noise(32, 32)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DataError, match=r"^corrupt image x"):
        images.decode(bytes(data), 32, "x")


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bomb(side):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"^image bomb has more than 89,478,485 pixels; shrink or remove it$"):
        images.decode(bomb, 8, "bomb")


def test_float_images_are_refused(png):
    with pytest.raises(DataError, match=r"^image f\.tif has mode 'F', beyond 16-bit grey; convert it to 8 or 16 bits$"):
        images.decode(png(np.zeros((4, 4), np.float32), "TIFF"), 4, "f.tif")


def test_threads_keep_the_order_and_name_the_first_corrupt_image(png):
    pixels = noise(1, 300)[0][:, None, None]  # 300 images of one pixel
    encoded = [(png(image), str(row)) for row, image in enumerate(pixels)]
    out = np.empty((300, 1, 1, 3), dtype=np.uint8)
    decoding.decode_into(out, encoded, np.arange(300))
    np.testing.assert_array_equal(out, pixels)
    encoded[130] = encoded[290] = (b"", "bad")
    with pytest.raises(DataError, match=r"^corrupt image bad \(id 630\): its 0 bytes are none of the formats"):
        decoding.decode_into(out, encoded, np.arange(300) + 500)


def test_a_file_that_would_start_another_program_is_refused_and_starts_none(tmp_path, monkeypatch):
    """Pillow hands EPS files to Ghostscript: bytes from a stranger must not."""
    started = tmp_path / "started"
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(ghostscript.parent), prepend=":")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(DataError, match=r"^corrupt image x\.png: its \d+ bytes are none of the formats BMP, GIF, "):
        decoding.decode(eps, 8, "x.png")
    assert not started.exists()


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_every_format_that_folders_may_hold_is_read(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 50)).save(buffer, format=kind)
    assert abs(decoding.decode(buffer.getvalue(), 8, "x").astype(int).mean((0, 1)) - [200, 100, 50]).max() < 12


# --- draft and centre ---


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95, **options)
    return buffer.getvalue()


def smooth(h, w):
    return np.asarray(Image.fromarray(noise(h // 8, w // 8)).resize((w, h), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("size", "scale"), [(64, 1), (32, 2), (30, 2), (17, 2), (16, 4), (8, 8), (2, 8)])
def test_a_draft_is_decoded_to_the_smallest_scale_that_is_large_enough(size, scale, monkeypatch):
    """127 x 64 pixels: a half has 64 x 32."""
    sizes, real = [], decoding.fit
    monkeypatch.setattr(decoding, "fit", lambda image, *rest: sizes.append(image.size) or real(image, *rest))
    data = jpeg(smooth(64, 127))
    pixels = decoding.decode(data, size, "x", Decoding("draft"))
    assert sizes == [(-(-127 // scale), 64 // scale)] and pixels.shape == (size, size, 3)
    exact = decoding.decode(data, size, "x")
    if scale == 1:
        np.testing.assert_array_equal(pixels, exact)
    assert np.abs(pixels.astype(int) - exact).mean() < 10  # of strong noise


@pytest.mark.parametrize("centre", [1.0, 0.75])
@pytest.mark.parametrize(("h", "w", "size"), [(24, 40, 12), (40, 24, 16), (16, 16, 20), (16, 16, 16)])
def test_fast_pixels_are_exact_ones_but_for_rounding(h, w, size, centre, png):
    """The rims that 0.75 leaves out of these sides are whole pixels."""
    data = png(smooth(2 * h, 2 * w)[:h, :w])
    exact = decoding.decode(data, size, "x", Decoding("exact", centre)).astype(int)
    found = decoding.decode(data, size, "x", Decoding("fast", centre))
    assert found.shape == (size, size, 3) and found.dtype == np.uint8
    inner = slice(4, -4) if centre < 1 else slice(None)  # antialiasing sees beyond the cut, or not
    assert np.abs(found - exact)[inner, inner].max() <= 2
    found[0, 0] = 1  # its memory is its own


@pytest.mark.parametrize("kind", ["colour", "grey", "turned", "inks", "large", "PNG"])
def test_fast_pixels_of_every_kind_of_file_are_upright_and_rgb(kind, png):
    exif, pixels = Image.Exif(), smooth(40, 64)
    exif[0x0112] = 6 if kind == "turned" else 1
    data = {
        "grey": lambda: jpeg(pixels[..., 0]),
        "inks": lambda: png(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95),
        "large": lambda: jpeg(smooth(160, 256)),
        "PNG": lambda: png(pixels),
    }.get(kind, lambda: jpeg(pixels, exif=exif.tobytes()))()
    found, wanted = (decoding.decode(data, 30, "x", Decoding(name)).astype(int) for name in ("fast", "draft"))
    assert np.abs(found - wanted).max() <= 2 and wanted.std() > 20


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_damage_is_named_by_fast_too(share):
    data = jpeg(smooth(64, 64))
    with pytest.raises(DataError, match=r"^corrupt image x: .*; replace or remove it$"):
        decoding.decode(data[: int(len(data) * share)], 40, "x", Decoding("fast"))


def test_a_draft_of_anything_but_a_large_jpeg_is_exact(png):
    for data in (png(noise(64, 80)), jpeg(noise(20, 30)), jpeg(noise(63, 63))):
        np.testing.assert_array_equal(decoding.decode(data, 32, "x", Decoding("draft")), decoding.decode(data, 32, "x"))


def test_a_draft_is_upright_and_its_damage_is_named():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(smooth(64, 128), exif=exif.tobytes())
    pixels = decoding.decode(data, 16, "x", Decoding("draft"))
    assert np.abs(pixels.astype(int) - decoding.decode(data, 16, "x")).mean() < 6
    with pytest.raises(DataError, match=r"^corrupt image x: .*; replace or remove it$"):
        decoding.decode(data[: len(data) // 2], 16, "x", Decoding("draft"))


@settings(deadline=None, max_examples=20)
@given(h=st.integers(16, 40), w=st.integers(16, 40), size=st.sampled_from([7, 14, 21]), seed=st.integers(0, 99))
def test_a_centre_is_a_larger_square_without_its_rim(h, w, size, seed):
    """7/8: resized to 8/7 of the size, of which the centre is cut, but for what antialiasing sees beyond the cut."""
    pixels = noise(h, w, seed=seed)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    found = images.decode(buffer.getvalue(), size, "x", Decoding("exact", 7 / 8))
    larger = reference_square(pixels, size // 7 * 8)
    rim = size // 14
    if size % 2 == 0:
        np.testing.assert_allclose(found, larger[rim : rim + size, rim : rim + size], atol=3)
    assert found.shape == (size, size, 3)
