"""The box of CutMix (Yun et al., ICCV 2019), and the two ways in which it becomes pixels.

lambda ~ Beta(1, 1), which is uniform. The box has side W sqrt(1 - lambda) in a view of side W and lies around a uniform
centre; what is outside the view is cut off. Lambda is then the true share of remaining pixels.

* `rounded`: the edges are real numbers, as in the paper, and rounded half up to pixels.
* `even`: as in the official code of CutMix, and in that of IDC, MDC, SRe2L, G-VBSM, RDED and EDC, which copy it. The
  side is int(W sqrt(1 - lambda)), the centre is a pixel, and the box reaches side // 2 pixels to both sides of it.
  So its side is even, and at most what the paper asks for: at 32 pixels boxes cover 29.9 % of a view on average, with
  rounded edges 32.2 %, and 0.4 % of them are empty.
"""

from __future__ import annotations

import numpy as np

from dcpipe.types import FloatArray, IntArray


def cutmix_box(area: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Square boxes that cover a share `area` of a view around the centres (x, y), clipped at its edges.

    The arguments are f64 [m] in [0, 1]. Boxes are f64 [m, 4]: left, top, right, bottom as fractions of the view.
    """
    half = np.sqrt(area) / 2
    box: FloatArray = np.stack([x - half, y - half, x + half, y + half], axis=1).clip(0.0, 1.0)
    return box


def in_pixels(boxes: FloatArray, size: int) -> IntArray:
    """Boxes f64 [m, 4] in fractions of a view of side `size`, rounded half up to its pixels: i64 [m, 4]."""
    return np.floor(boxes * size + 0.5).astype(np.int64)


def even_pixels(cut: FloatArray, size: int) -> IntArray:
    """The boxes of `cutmix_box` in pixels of a view of side `size`, with even sides: i64 [m, 4]. `cut` f64 [m, 3] are
    areas and centres. A box that is not clipped has a side of 2 floor(floor(size sqrt(area)) / 2) pixels."""
    area, x, y = cut.T
    reach = np.floor(size * np.sqrt(area)).astype(np.int64) // 2
    across, down = (np.minimum(np.floor(size * place), size - 1).astype(np.int64) for place in (x, y))
    bounds: IntArray = np.stack([across - reach, down - reach, across + reach, down + reach], axis=1).clip(0, size)
    return bounds


def share_outside(bounds: IntArray, size: int) -> FloatArray:
    """CutMix's lambda: the share of the pixels of a view outside the box `bounds` i64 [m, 4], f64 [m]."""
    left, top, right, bottom = bounds.T
    share: FloatArray = 1.0 - (right - left) * (bottom - top) / float(size * size)
    return share
