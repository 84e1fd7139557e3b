"""`digits`: scikit-learn's 1,797 handwritten digits of 8x8 pixels, for tests and first steps without a download."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dcpipe.config.options import validated
from dcpipe.config.values import Seed, Share
from dcpipe.images.base import Source, check_ascending, counts_classes, divided, reads_files
from dcpipe.images.decoding import Pixels
from dcpipe.types import IntArray

CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, eq=False)
class Digits:
    """Grey images u8 [n, 8, 8], encoded as PNG when read."""

    classes: tuple[str, ...]
    labels: IntArray
    pixels: Pixels

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        check_ascending(rows, len(self.labels), "digits")
        return [(_png(self.pixels[row]), f"{row:04d}.png") for row in rows]


@reads_files(lambda **options: ())  # they come with scikit-learn
@counts_classes(lambda **options: len(CLASSES))
@validated("image source 'digits'")
def digits(*, test_share: Share = 0.2, seed: Seed = 0) -> dict[str, Source]:
    """The digits data set of scikit-learn (E. Alpaydin, C. Kaynak, UCI 1998).

    A pixel value v in 0..16 becomes round(v * 255 / 16). `seed` draws a stratified `test_share` of the images for the
    split `test`. The classes are "0" to "9".
    """
    from sklearn.datasets import load_digits  # needed to build, not to read a release

    content = load_digits()
    pixels = np.floor(content.images * 255 / 16 + 0.5).astype(np.uint8)
    whole = Digits(CLASSES, content.target.astype(np.int64), pixels)
    return divided(whole, test_share, seed, "digits")


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
