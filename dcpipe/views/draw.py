"""Draw the parameters of many views at once in NumPy; they are a pure function of (seed, view, image).

* Crop, distributed as in torchvision's RandomResizedCrop, on a unit square: up to ten attempts draw area ~
  U(scale_min, scale_max) and log aspect ~ U(log ratio_min, log ratio_max). The first box that fits is placed uniformly;
  if none fits, the largest centred box is used. Boxes are continuous, not rounded to pixels.
* CutMix (see `boxes`): a uniform lambda and a uniform centre, of which the box is made when it is applied. If
  `mix_share` is below 1, a view is mixed only where the one random number that the box does not use is below it.
* RandAugment and shuffled patches change the whole image before the crop: see `randaugment`. Siamese augmentation
  changes the view itself, after the crop and before the mix: see `siamese`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.random import Draw, philox, uniform
from dcpipe.types import FloatArray, IntArray, ViewPolicy
from dcpipe.views import randaugment, siamese
from dcpipe.views.boxes import cutmix_box, even_pixels, in_pixels, share_outside


@dataclass(frozen=True, eq=False)
class Views:
    """Parameters of m views. Indexing selects views.

    Attributes:
        box: f64 [m, 4]; left, top, width and height of the crop as fractions of the image.
        flip: bool [m].
        partner: i64 [m]; row of the image that CutMix pastes.
        mix_box: f64 [m, 4]; left, top, right and bottom of the pasted box as fractions of the view. The box is empty
            where a view is not mixed.
        cut: f64 [m, 3] or None; area (0 where a view is not mixed) and centre of the pasted box before it is clipped,
            if its sides are cut to even numbers of pixels.
        inside: whether samples stay between the outermost pixel centres of the box, as if the crop had been cut out
            first and then enlarged. Drawn views may sample half a pixel beyond.
        ops, signs: i64 [m, steps]; the steps of RandAugment before the crop, or None.
        patches: i64 [m, f * f]; the previous place of each shuffled patch before the crop, or None.
        after: what siamese augmentation does after the crop, or None.
    """

    box: FloatArray
    flip: npt.NDArray[np.bool_]
    partner: IntArray
    mix_box: FloatArray
    inside: bool = False
    cut: FloatArray | None = None
    ops: IntArray | None = None
    signs: IntArray | None = None
    patches: IntArray | None = None
    after: siamese.Drawn | None = None

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, index: slice | npt.NDArray[np.bool_] | IntArray) -> Views:
        arrays = (np.ndarray, siamese.Drawn)
        selected: dict[str, Any] = {k: array[index] for k, array in vars(self).items() if isinstance(array, arrays)}
        return replace(self, **selected)

    def pixels(self, size: int) -> IntArray:
        """The pasted box in pixels of a view of side `size`: i64 [m, 4]."""
        return in_pixels(self.mix_box, size) if self.cut is None else even_pixels(self.cut, size)

    def unmixed_share(self, size: int) -> FloatArray:
        """Lambda: the share of the pixels of a view that CutMix leaves unchanged, f64 [m]."""
        return share_outside(self.pixels(size), size)


def draw(policy: ViewPolicy, ids: IntArray, views: IntArray, n_images: int) -> Views:
    """Draw the parameters of view `views[j]` of image `ids[j]` for every j; both are i64 [m].

    `n_images` is the size of the set that CutMix partners are drawn from (rows 0..n_images - 1).
    """
    box = draw_boxes(policy, ids, views)
    before = randaugment.draw(policy, lambda number: philox(policy.seed, views, number, ids))
    after = (
        siamese.draw(policy.siamese, lambda d: uniform(philox(policy.seed, views, d, ids))) if policy.siamese else None
    )
    first = uniform(philox(policy.seed, views, Draw.FLIP, ids))
    flip = first[:, 0] < policy.flip
    if policy.mix == "none":
        nothing = np.zeros((len(ids), 4))
        return Views(box, flip, np.zeros(len(ids), dtype=np.int64), nothing, False, None, *before, after)
    second = uniform(philox(policy.seed, views, Draw.MIX, ids))
    partner = np.minimum((first[:, 1] * n_images).astype(np.int64), n_images - 1)
    mixed = second[:, 3:] < policy.mix_share
    area, x, y = 1.0 - second[:, 0], second[:, 1], second[:, 2]  # lambda = second[:, 0]
    cut = np.stack([area * mixed[:, 0], x, y], axis=1) if policy.mix_box == "even" else None
    return Views(box, flip, partner, cutmix_box(area, x, y) * mixed, False, cut, *before, after)


def draw_boxes(policy: ViewPolicy, ids: IntArray, views: IntArray, aspects: FloatArray | None = None) -> FloatArray:
    """The crops of `draw` alone: f64 [m, 4]. `aspects` f64 [m] is width / height of each image, by default 1; a box is
    a share of the area of its image, and its aspect is measured in pixels."""
    wide = np.ones(len(ids)) if aspects is None else aspects
    ratio = np.log([policy.ratio_min, policy.ratio_max])
    # If all ten attempts fail: the largest centred box with a valid aspect, which for a square is the whole image.
    aspect = np.clip(wide, policy.ratio_min, policy.ratio_max)
    w, h = np.minimum(1.0, aspect / wide), np.minimum(1.0, wide / aspect)
    box: FloatArray = np.stack([(1 - w) / 2, (1 - h) / 2, w, h], axis=1)
    stretch = np.sqrt(wide)
    waiting = np.arange(len(ids))
    for attempt in Draw.CROP.numbers:
        if not len(waiting):
            break
        u = uniform(philox(policy.seed, views[waiting], attempt, ids[waiting]))
        area = policy.scale_min + u[:, 0] * (policy.scale_max - policy.scale_min)
        side = np.exp((ratio[0] + u[:, 1] * (ratio[1] - ratio[0])) / 2)
        width, height = np.sqrt(area) * side / stretch[waiting], np.sqrt(area) / side * stretch[waiting]
        fits = (width <= 1.0) & (height <= 1.0)
        left, top = u[:, 2] * (1 - width), u[:, 3] * (1 - height)
        box[waiting[fits]] = np.stack([left, top, width, height], axis=1)[fits]
        waiting = waiting[~fits]
    return box
