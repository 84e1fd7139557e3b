"""Weak augmentation in a step of recovery: the whole batch gets the same random parameters.

They come from the counter-based generator of `dcpipe.random`, keyed by (seed, step, batch), so a resumed run gets the
same augmentation as an uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe import views
from dcpipe.random import DROP_ROWS, Draw, philox, uniform
from dcpipe.types import ViewPolicy, require


@dataclass(frozen=True)
class WeakAugmentation:
    """Random crop, flip and shift of a step.

    `crop_min`: smallest area of RandomResizedCrop (1: no crop). `curriculum` (CDA, Yin & Shen, 2024): the share of the
    run in which the smallest area falls from 1 to `crop_min` along a half cosine (0: it is always `crop_min`). `pad`:
    instead of a resized crop, a random crop of the images padded with this many pixels of zero, which is the mean
    colour of normalised pixels (0: off). `flip`: probability. `jitter`: images are rolled by up to this many pixels in
    either direction, to 2 jitter + 1 places. So does SRe2L's code for Tiny-ImageNet; that of SRe2L for other sets, CDA
    and G-VBSM rolls in one direction only, to jitter + 1 places.
    """

    crop_min: float = 1.0
    curriculum: float = 0.0
    pad: int = 0
    flip: float = 0.5
    jitter: int = 0

    def __post_init__(self) -> None:
        require(
            self.pad == 0 or self.crop_min == 1,
            f"crop_min is {self.crop_min} and pad is {self.pad}, but only one kind of crop is possible; "
            "set crop_min: 1 or pad: 0",
        )

    def least_area(self, step: int, steps: int) -> float:
        """The smallest area of a crop in a step, as a share of the image."""
        end = self.curriculum * steps
        if step >= end:
            return self.crop_min
        return self.crop_min + (1 - self.crop_min) * (1 + math.cos(math.pi * step / end)) / 2

    def apply(self, images: torch.Tensor, seed: int, batch: int, step: int, steps: int) -> torch.Tensor:
        """Images f32 [m, 3, s, s], augmented as in a step; differentiable, with the same parameters for all images."""
        area = self.least_area(step, steps)
        policy = ViewPolicy(area, 1.0, self.flip, seed=seed)
        one = views.draw(policy, np.array([batch]), np.array([step]), 1)
        across, down, x, y = uniform(philox(seed, step, Draw.RECOVERY_SHIFT, batch)).tolist()
        if self.pad:
            seen = _shifted_crop(images, self.pad, across, down)
            seen = seen.flip(3) if bool(one.flip[0]) else seen
        elif area < 1:
            every = one[np.zeros(len(images), dtype=np.int64)]
            seen = views.crop(images.permute(0, 2, 3, 1), every, images.shape[-1])
        else:
            seen = images.flip(3) if bool(one.flip[0]) else images
        if self.jitter:
            shifts = [int(u * (2 * self.jitter + 1)) - self.jitter for u in (x, y)]
            seen = torch.roll(seen, shifts, dims=(2, 3))
        return seen


def _shifted_crop(images: torch.Tensor, pad: int, across: float, down: float) -> torch.Tensor:
    """A crop of the padded images with the size of the original ones, at a position given by two numbers in [0, 1)."""
    size = images.shape[-1]
    left, top = int(across * (2 * pad + 1)), int(down * (2 * pad + 1))
    return F.pad(images, (pad, pad, pad, pad))[:, :, top : top + size, left : left + size]


def uniforms(seed: int, batch: int, step: int, n: int) -> torch.Tensor:
    """n numbers in [0, 1), f32, for random choices within a step."""
    words = philox(seed, step, Draw.RECOVERY_DROP, np.int64(batch) * DROP_ROWS + np.arange(-(-n // 4)))
    # The top 24 bits, which f32 represents exactly, so that none is rounded up to 1.
    return torch.from_numpy((words >> np.uint64(40)).reshape(-1)[:n].astype(np.float32) * np.float32(2.0**-24))
