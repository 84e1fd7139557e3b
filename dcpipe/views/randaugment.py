"""Augmentations of the whole image before the crop: RandAugment and shuffled patches.

* RandAugment (Cubuk et al., "Randaugment", NeurIPS 2020) with torchvision's table and defaults. Each step draws one of
  14 operations, and a sign if the operation has a direction. The strength is that of bin 9 of 31; a translation scales
  with the size of the image. EDC trains its students on small images this way, with 2 steps.
* Shuffled patches: the f x f patches of an image change places. RDED trains on its mosaics this way, with the cells of
  the mosaic as patches.

If a policy uses both, the patches move last. All rows that drew the same operation and sign share one call of
torchvision. So a step makes at most 22 calls for any batch, and the pixels of a row do not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees, isqrt

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.random import Draw
from dcpipe.types import IntArray, ViewPolicy, require
from dcpipe.views.device import take

BINS, BIN = 31, 9  # torchvision's defaults: magnitude 9 of 0..30

# Operation -> strength of the strongest bin (for a translation, a share of the side), and whether it has a sign.
# The order is torchvision's. Drawn numbers are indices into it, so it must never change.
OPERATIONS: dict[str, tuple[float, bool]] = {
    "Identity": (0.0, False),
    "ShearX": (0.3, True),
    "ShearY": (0.3, True),
    "TranslateX": (150 / 331, True),
    "TranslateY": (150 / 331, True),
    "Rotate": (30.0, True),
    "Brightness": (0.9, True),
    "Color": (0.9, True),
    "Contrast": (0.9, True),
    "Sharpness": (0.9, True),
    "Posterize": (4.0, False),
    "Solarize": (255.0, False),
    "AutoContrast": (0.0, False),
    "Equalize": (0.0, False),
}
_NAMES = tuple(OPERATIONS)
_SIGNED = np.array([signed for _, signed in OPERATIONS.values()])


Words = npt.NDArray[np.uint64]


def draw(policy: ViewPolicy, words: Callable[[int], Words]) -> tuple[IntArray | None, IntArray | None, IntArray | None]:
    """Draw `ops`, `signs` and `patches` of `views.Views` for m views; None for what the policy does not use.

    `words(number)` returns u64 [m, 4] from the generator. The first word of a step chooses the operation, the second
    word its sign. The order of the patches is the sorting order of f * f words.
    """
    ops, signs, patches = None, None, None
    if policy.randaugment:
        ops, signs = operations(
            np.stack([words(Draw.RANDAUGMENT + step) for step in range(policy.randaugment)], axis=1)
        )
    if policy.shuffle > 1:
        count = policy.shuffle**2
        drawn = np.concatenate([words(Draw.PATCHES + j) for j in range(-(-count // 4))], axis=1)[:, :count]
        patches = np.argsort(drawn, axis=1, kind="stable").astype(np.int64)
    return ops, signs, patches


def operations(words: Words) -> tuple[IntArray, IntArray]:
    """Operations and signs, both i64 [...], from words u64 [..., 4].

    The operation is floor(14 w / 2**64), computed from the upper half of the first word w. The sign, +1 or -1, is the
    top bit of the second word; operations without a direction have +1.
    """
    half = np.uint64(32)
    ops = (((words[..., 0] >> half) * np.uint64(len(_NAMES))) >> half).astype(np.int64)
    negative = (words[..., 1] >> np.uint64(63)).astype(np.bool_)
    return ops, np.where(_SIGNED[ops] & negative, -1, 1).astype(np.int64)


def apply(
    images: torch.Tensor, ops: IntArray | None, signs: IntArray | None, patches: torch.Tensor | None
) -> torch.Tensor:
    """Apply RandAugment and shuffling, in this order, to images [m, h, w, 3]; None skips either."""
    if ops is not None and signs is not None:
        images = randaugment(images, ops, signs)
    return images if patches is None else shuffle(images, patches)


def randaugment(images: torch.Tensor, ops: IntArray, signs: IntArray) -> torch.Tensor:
    """Apply the steps `ops` and `signs`, i64 [m, steps], to images u8 [m, h, w, 3], first step first.

    Raises `DataError` for images that are not u8: the operations are defined on 256 values and have no gradient.
    """
    dtype = str(images.dtype).removeprefix("torch.")
    require(images.dtype == torch.uint8, f"views: RandAugment needs images of type uint8, got {dtype}; convert them")
    pixels = images.permute(0, 3, 1, 2)
    places = np.arange(len(ops))  # the original row of the image that is now at each position
    for op, sign in zip(ops.T, signs.T, strict=True):
        key = (2 * op + (sign < 0))[places]
        order = np.argsort(key, kind="stable")
        places, key = places[order], key[order]
        pixels = take(pixels, order)
        kinds, starts = np.unique(key, return_index=True)
        stops = np.append(starts, len(key))[1:]
        for kind, start, stop in zip(kinds.tolist(), starts, stops, strict=True):
            pixels[start:stop] = change(pixels[start:stop], _NAMES[kind // 2], -1 if kind % 2 else 1)
    return take(pixels, np.argsort(places)).permute(0, 2, 3, 1)


def strength(name: str, height: int, width: int) -> float:
    """The magnitude of bin 9 in the units of torchvision, rounded as torchvision rounds it (f32)."""
    top = OPERATIONS[name][0]
    if name == "Posterize":  # number of bits that remain
        return 8.0 - round(BIN / ((BINS - 1) / top))
    if name == "Solarize":  # values of at least this are inverted
        return float(torch.linspace(top, 0.0, BINS)[BIN])
    side = {"TranslateX": width, "TranslateY": height}.get(name, 1)
    return float(torch.linspace(0.0, top * side, BINS)[BIN])


def change(pixels: torch.Tensor, name: str, sign: int) -> torch.Tensor:
    """Apply one operation to a batch u8 [m, 3, h, w]. Uncovered pixels are black; sampling is nearest-neighbour."""
    from torchvision.transforms.v2 import functional as tv

    amount = (sign if OPERATIONS[name][1] else 1) * strength(name, *pixels.shape[2:])
    changed: torch.Tensor
    match name:
        case "Identity":
            return pixels
        case "ShearX" | "ShearY":
            angle = degrees(atan(amount))
            shear = [angle, 0.0] if name == "ShearX" else [0.0, angle]
            changed = tv.affine(pixels, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
        case "TranslateX" | "TranslateY":
            shift = [int(amount), 0] if name == "TranslateX" else [0, int(amount)]
            changed = tv.affine(pixels, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
        case "Rotate":
            changed = tv.rotate(pixels, amount)
        case "Brightness":
            changed = tv.adjust_brightness(pixels, 1.0 + amount)
        case "Color":
            changed = tv.adjust_saturation(pixels, 1.0 + amount)
        case "Contrast":
            changed = tv.adjust_contrast(pixels, 1.0 + amount)
        case "Sharpness":
            changed = tv.adjust_sharpness(pixels, 1.0 + amount)
        case "Posterize":
            changed = tv.posterize(pixels, int(amount))
        case "Solarize":
            changed = tv.solarize(pixels, amount)
        case "AutoContrast":
            changed = tv.autocontrast(pixels)
        case _:
            changed = tv.equalize(pixels)
    return changed


def shuffle(images: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Permute the f x f patches of images [m, h, w, c].

    The new patch at place p, in row-major order, is the old patch at place `patches[:, p]`; `patches` is i64
    [m, f * f] on their device. Raises `DataError` if f does not divide the sides.
    """
    m, height, width, channels = images.shape
    f = isqrt(patches.shape[1])
    fits = height % f == 0 and width % f == 0
    require(fits, f"views: shuffle is {f}, which does not divide images of {height} x {width} pixels; choose a divisor")
    cells = images.reshape(m, f, height // f, f, width // f, channels).transpose(2, 3).flatten(1, 2)
    rows = torch.arange(m, device=images.device)[:, None]
    moved = cells[rows, patches]
    return moved.view(m, f, f, *cells.shape[2:]).transpose(2, 3).reshape(m, height, width, channels)
