"""What low-rank codecs share: the number of components of each image, their arrays and their product.

Idea: K x C labels of rank r consist of r components, each a column of K times a row of C numbers, with 2 (K + C) bytes
in fp16. A budget seldom divides evenly: at 30x with K = 300 and C = 1000, 7.7 components per image fit, and an integer
rank for all images would leave a tenth of the bytes unused. So all images get r components, and the first `extra`
images one more, which uses the budget up to one component of one image. The first images were picked first and belong
to every smaller set too.

Arrays: `left` fp16 [n, K, r] and `right` fp16 [n, r, c]; and if extra > 0, `left_more` fp16 [extra, K] and `right_more`
fp16 [extra, c], so that axis 0 of each array runs over images and blocks can be joined. A block of images beyond
`extra` adds no rows to the last two. Every image has at least one component, because otherwise it would have no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dcpipe.compression.base import Array, Specs
from dcpipe.types import IntArray, LabelShape


def component_bytes(shape: LabelShape) -> int:
    """Bytes of one component of one image."""
    return 2 * (shape.views + shape.classes)


def split(shape: LabelShape, budget: int) -> tuple[int, int]:
    """The rank that fits, and how many of the first images get one more component; never beyond full rank."""
    rank, extra = divmod(budget // component_bytes(shape), shape.images)
    full = min(shape.views, shape.classes)
    return (rank, extra) if rank < full else (full, 0)


def components(rank: int, extra: int) -> int:
    """The most components that an image has.

    All images of a block are computed with this number and some drop the last one, so that the factors of an image do
    not depend on its block.
    """
    return rank + (extra > 0)


def extra_rows(rows: IntArray, extra: int) -> int:
    """How many of the consecutive images `rows` have one more component; these are the first ones."""
    return int((rows < extra).sum())


def stored_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without `extra` if it is 0, so that such packs are byte-identical to older ones."""
    return {name: value for name, value in settings.items() if name != "extra" or value > 0}


def factor_specs(shape: LabelShape, rank: int, extra: int) -> Specs:
    """Shapes and dtypes of the arrays of factors."""
    n, k, c = shape.images, shape.views, shape.classes
    specs: Specs = {"left": ((n, k, rank), "float16"), "right": ((n, rank, c), "float16")}
    if extra > 0:
        specs |= {"left_more": ((extra, k), "float16"), "right_more": ((extra, c), "float16")}
    return specs


def factor_arrays(left: torch.Tensor, right: torch.Tensor, rows: IntArray, rank: int, extra: int) -> dict[str, Array]:
    """The arrays of a block of images `rows` from factors [b, K, components] and [b, components, c]."""
    arrays = {"left": as_fp16(left[:, :, :rank]), "right": as_fp16(right[:, :rank])}
    if extra > 0:
        more = extra_rows(rows, extra)
        arrays |= {"left_more": as_fp16(left[:more, :, rank]), "right_more": as_fp16(right[:more, rank])}
    return arrays


def product(
    arrays: Mapping[str, torch.Tensor], rows: torch.Tensor, stored: torch.Tensor, held: torch.Tensor | None = None
) -> torch.Tensor:
    """Row `stored[j]` of the product of the factors of image `rows[j]`, f32 [m, c]; `held` bool [m, r] says which of
    the r components count, by default all."""
    left = arrays["left"][rows, stored].to(torch.float32)
    right = arrays["right"][rows].to(torch.float32)
    if held is not None:  # what the others hold may be any finite numbers, whose products overflow
        left, right = torch.where(held, left, 0), torch.where(held[:, :, None], right, 0)
    logits = torch.bmm(left[:, None, :], right)[:, 0]
    if "left_more" in arrays:
        extra = len(arrays["left_more"])
        place, image = having_more(rows, extra)
        more = arrays["left_more"][image, stored[place], None].to(torch.float32)
        more = more * arrays["right_more"][image].to(torch.float32)
        logits[place] += torch.where(rows[place, None] < extra, more, 0)
    return logits


def having_more(rows: torch.Tensor, extra: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places i64 in `rows` of the images that have one more component, and these images.

    Only a CPU selects them, because the host would have to wait for another device to learn their number.
    """
    if rows.device.type != "cpu":
        return all_places(rows, extra)
    place = torch.nonzero(rows < extra)[:, 0]
    return place, rows[place]


def all_places(rows: torch.Tensor, extra: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `having_more`, but all places, with image `extra` - 1 for those without one more component. So the caller
    leaves out what it computes for them."""
    return torch.arange(len(rows), device=rows.device), rows.clamp_max(extra - 1)


def as_fp16(tensor: torch.Tensor) -> Array:
    """A contiguous fp16 array in host memory."""
    array: Array = tensor.to(torch.float16).contiguous().cpu().numpy()
    return array
