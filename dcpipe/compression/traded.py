"""Components that give their bytes to sparse entries: how a pack of low-rank factors can hold L + S instead.

Idea: whether a sparse part is worth its bytes depends on the image, but the arrays of a pack are planned before any
label is seen. So every image gets r components, as in `svd`, and may trade its last t of them for entries. The factors
of a component are K + C numbers of fp16, two bytes each; t of them hold the k largest entries of every view, value by
value, then the classes. Only k depends on t (`entries`), so nothing but t has to be known to read them.

No byte says how many components an image trades, because the sign of a component is free: (-u)(-v)^T = u v^T. The sign
bit of the first number of each row of `right` is cleared, except in the last component that is left if others are
traded. So components are read up to the first one whose bit is set, and an image that trades none has the labels of
`svd`.

Words: the classes of p entries in a row are digits of one number in base C, with the largest p (at most 8) for which
C^p <= 63,488, the number of finite values of fp16. A number below 31,744 is its own bit pattern; to larger ones 1,024
is added, which skips the patterns of infinity and NaN. So all words are finite fp16, as in every pack. The words of an
image fill `left[:, r - t:]` and then `right[r - t:]`, in C order.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch

from dcpipe.compression.base import Array
from dcpipe.types import LabelShape
from dcpipe.views.device import constant

FINITE, _POSITIVE, _SKIPPED = 63488, 31744, 1024
_MOST_DIGITS = 8


@cache
def digits(classes: int) -> int:
    """How many classes fit into one word; 0 if there are more classes than words."""
    return max((p for p in range(1, _MOST_DIGITS + 1) if classes**p <= FINITE), default=0)


@cache
def entries(shape: LabelShape, count: int) -> int:
    """Entries per view that fit into the bytes of `count` components of an image; at most one per class."""
    together, room = digits(shape.classes), count * (shape.views + shape.classes)
    if together == 0:
        return 0
    fits = min(room * together // ((together + 1) * shape.views), shape.classes)
    return fits if words(shape, fits) <= room else fits - 1  # an incomplete last word may be one too many


def words(shape: LabelShape, per_view: int) -> int:
    """Numbers of fp16 that this many entries per view of one image take."""
    together = max(1, digits(shape.classes))
    return shape.views * per_view - (-shape.views * per_view // together)


def pack_entries(values: torch.Tensor, columns: torch.Tensor, shape: LabelShape, count: int) -> tuple[Array, Array]:
    """Values and classes [b, K, k] of the entries in the bytes of `count` components: fp16 [b, K, count] and [b, count,
    C]."""
    b, k, c = len(values), shape.views, shape.classes
    together = digits(c)
    flat = columns.reshape(b, -1).cpu().numpy().astype(np.int64)
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % together))).reshape(b, -1, together)
    numbers = flat @ c ** np.arange(together)
    patterns = np.where(numbers < _POSITIVE, numbers, numbers + _SKIPPED).astype(np.uint16).view(np.float16)
    held = np.concatenate([values.reshape(b, -1).to(torch.float16).cpu().numpy(), patterns], axis=1)
    held = np.pad(held, ((0, 0), (0, count * (k + c) - held.shape[1])))
    return held[:, : k * count].reshape(b, k, count), held[:, k * count :].reshape(b, count, c)


def components_held(right: torch.Tensor) -> torch.Tensor:
    """Which of the components of images [m, r, C] are components and not entries: bool [m, r]."""
    ends = torch.signbit(right[:, :, 0]).to(torch.int32)
    held: torch.Tensor = ends.cumsum(1) - ends == 0
    return held


def signed(left: torch.Tensor, right: torch.Tensor, ends: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors [b, K, j] and [b, j, C] with the same products and the sign bits that end the components, if `ends`."""
    wanted = torch.zeros(right.shape[1], dtype=torch.bool, device=right.device)
    wanted[-1] = ends
    turned = torch.signbit(right[:, :, 0]) != wanted
    return torch.where(turned[:, None, :], -left, left), torch.where(turned[:, :, None], -right, right)


def entries_of(
    arrays: Mapping[str, torch.Tensor],
    count: torch.Tensor,
    most: int,
    rows: torch.Tensor,
    stored: torch.Tensor,
    shape: LabelShape,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values f32 and classes i64 [m, e] of the entries of view `stored[j]` of image `rows[j]`, which trades `count[j]`
    components, i64 [m], of at most `most`. An image with fewer than e entries has zeros in the first class."""
    left, right = arrays["left"], arrays["right"]
    device, rank, c = left.device, left.shape[2], shape.classes
    sizes = constant(tuple(entries(shape, t) for t in range(rank + 1)), device, torch.int64)
    image, view = rows[:, None], stored[:, None]
    per_view, number = sizes[count][:, None], torch.arange(entries(shape, most), device=device)[None]
    t, valid = count[:, None].clamp(min=1), number < per_view

    def word(place: torch.Tensor) -> torch.Tensor:
        """The words at these places of each image; those that are not valid read some word of the image."""
        beyond = (place - shape.views * t).clamp(min=0)
        near = place.clamp(max=shape.views * t - 1)
        first = left[image, near // t, rank - t + near % t]
        second = right[image, rank - t + (beyond // c).clamp(max=t - 1), beyond % c]
        return torch.where(place < shape.views * t, first, second)

    together = max(1, digits(c))
    at = torch.where(valid, view * per_view + number, 0)
    pattern = word(shape.views * per_view + at // together).view(torch.int16).to(torch.int64) & 0xFFFF
    numbers = torch.where(pattern < _POSITIVE, pattern, pattern - _SKIPPED)
    columns = numbers // c ** (at % together) % c
    return torch.where(valid, word(at), 0).to(torch.float32), torch.where(valid, columns, 0)
