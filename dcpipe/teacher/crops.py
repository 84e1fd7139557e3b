"""Random crops of whole images: the training of the published ImageNet recipes (torchvision's RandomResizedCrop).

Usually, views are crops of the squares that a table decodes to. Here the crop is cut from the image at its original
resolution and then shrunk or enlarged to the size of the squares, so it shows details that the squares have lost, and
the parts of an image beyond its central square. Every image is decoded anew in every epoch.

The crop of an image is a function of (seed, id, epoch), the same random numbers as those of a view: the area is a share
of that of the image, and the aspect is measured in pixels. Sampling is antialiased bilinear, like torchvision's.

Where we differ: boxes are not rounded to pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from PIL import Image

from dcpipe import views
from dcpipe.images.decoding import Encoded, Pixels, named, open_rgb
from dcpipe.types import FloatArray, IntArray, ViewPolicy
from dcpipe.views.draw import draw_boxes

_AT_ONCE = 16  # whole images that a thread holds, so that their crops are drawn together


@dataclass(frozen=True)
class Crops:
    """The crops of one epoch. Called as `decode_some` of `images.stream`."""

    policy: ViewPolicy
    epoch: int

    def __call__(self, out: Pixels, encoded: Encoded, ids: IntArray) -> None:
        """Decode images with their ids i64 [m] and write one crop of each to `out` u8 [m, s, s, 3]."""
        for first in range(0, len(encoded), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            whole = [open_rgb(d, named(path, int(i))) for (d, path), i in zip(encoded[some], ids[some], strict=True)]
            aspects = np.array([image.width / image.height for image in whole])
            boxes = draw_boxes(self.policy, ids[some], np.full(len(whole), self.epoch, dtype=np.int64), aspects)
            for place, (image, box) in enumerate(zip(whole, boxes, strict=True)):
                out[first + place] = resized(image, box, out.shape[1])


def after_crops(drawn: views.Views) -> views.Views:
    """What remains of the views `drawn` for images that are their crops already."""
    return replace(drawn, box=np.tile([0.0, 0.0, 1.0, 1.0], (len(drawn), 1)))


def resized(image: Image.Image, box: FloatArray, size: int) -> Pixels:
    """A box f64 [4] (left, top, width and height as shares of the image) of an RGB image as u8 [size, size, 3].

    Columns are resized before rows, each by a call of its own, because Pillow chooses the order of the two by the shape
    of the image, and differently in different versions.
    """
    left, top, width, height = box * [image.width, image.height, image.width, image.height]
    x, y = floor(left), floor(top)
    right, bottom = min(ceil(left + width), image.width), min(ceil(top + height), image.height)
    cut = image.crop((x, y, right, bottom))
    wide = (left - x, 0, min(left - x + width, cut.width), cut.height)
    across = cut.resize((size, cut.height), Image.Resampling.BILINEAR, box=wide)
    tall = (0, top - y, size, min(top - y + height, cut.height))
    return np.asarray(across.resize((size, size), Image.Resampling.BILINEAR, box=tall))
