"""Condensed images as the bytes of PNG files: in threads, and only those that are not encoded yet.

To encode an image takes five times as long as to decode it, and the same images are written several times: by the
synthesis, in the release, and at smaller sizes to measure them. A file that may hold them already is therefore looked
at first, and its bytes are taken for every image that they decode to.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from dcpipe.store.columns import REMEDY
from dcpipe.store.documents import reading
from dcpipe.store.pictures import open_image
from dcpipe.types import ImageSet

_THREADS = min(16, os.cpu_count() or 1)
_PNG = b"\x89PNG\r\n\x1a\n"


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """One image u8 [h, w, 3] as the bytes of a lossless PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def encode_all(images: ImageSet, stored: Path | None = None) -> list[bytes]:
    """The images of a set as the bytes of PNG files, in the order of the set.

    `stored` is a file of `save_set` that may hold some of them. An image that it holds under the same id with the same
    pixels is not encoded again. Raises `DataError` if it cannot be read.
    """
    encoded: dict[int, bytes] = {}
    places = {int(number): row for row, number in enumerate(images.ids)}

    def same(item: tuple[int, bytes]) -> bool:
        row, data = item
        return _is_png_of(images.images[row], data, f"{stored}: {images.ids[row]}")

    with ThreadPoolExecutor(max_workers=_THREADS) as pool:  # Pillow releases the GIL
        for block in () if stored is None else _blocks(stored):
            ours = [(places[number], data) for number, data in block if number in places]
            encoded.update(item for item, found in zip(ours, pool.map(same, ours), strict=True) if found)
        missing = [row for row in range(len(images)) if row not in encoded]
        encoded.update(zip(missing, pool.map(lambda row: encode_png(images.images[row]), missing), strict=True))
    return [encoded[row] for row in range(len(images))]


def _blocks(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """Ids and bytes of the images in a file of `save_set`, one row group at a time."""
    with reading(path, "Parquet", REMEDY), pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["id", "image"])
            yield [
                (number, value["bytes"])
                for number, value in zip(rows["id"].to_pylist(), rows["image"].to_pylist(), strict=True)
            ]


def _is_png_of(pixels: npt.NDArray[np.uint8], data: bytes, name: str) -> bool:
    """Whether bytes are a PNG file of these pixels u8 [h, w, 3]."""
    if not data.startswith(_PNG):
        return False
    image = open_image(data, name, REMEDY)
    return image.mode == "RGB" and np.array_equal(np.asarray(image), pixels)
