"""What a view may do to a whole image before it is cut: RandAugment, and shuffled patches.

* RandAugment (Cubuk et al., "Randaugment", NeurIPS 2020) with torchvision's table and defaults: each step draws one of
  14 operations, and where the operation has a direction a sign; its strength is that of bin 9 of 31, by the image's
  size. EDC trains its students on small images so, with 2 steps.
* Shuffled patches: the f x f patches of an image change places. RDED trains on its mosaics so; a patch is a cell then.

Where both are asked for, patches move last. Rows that drew the same operation and sign go through one call of
torchvision, so a step costs 22 calls at most, whatever the batch, and a row's pixels do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees, isqrt

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.random import Draw
from dcpipe.types import IntArray, ViewPolicy, require

BINS, BIN = 31, 9  # torchvision's defaults: magnitude 9 of 0..30

# Operation -> strength of the strongest bin (of a translation: as a share of the side), and whether it has a sign.
# The order is torchvision's; a drawn number is a place in it, so it must never change.
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
    """`ops`, `signs` and `patches` of `views.Views` for m views, None where the policy does nothing of the kind.

    `words(number)` are u64 [m, 4] of the generator. A step's first word chooses the operation, its second the sign;
    the patches' order is that of f * f words.
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
    """Operation floor(14 w / 2**64), by the upper half of the first word w, and sign, +1 or -1, by the top bit of the
    second: both i64 [...] of words [..., 4]. Operations without a direction have +1."""
    half = np.uint64(32)
    ops = (((words[..., 0] >> half) * np.uint64(len(_NAMES))) >> half).astype(np.int64)
    negative = (words[..., 1] >> np.uint64(63)).astype(np.bool_)
    return ops, np.where(_SIGNED[ops] & negative, -1, 1).astype(np.int64)


def apply(images: torch.Tensor, ops: IntArray | None, signs: IntArray | None, patches: IntArray | None) -> torch.Tensor:
    """Images [m, h, w, 3] as their views want them, before the crop; None leaves a step out."""
    if ops is not None and signs is not None:
        images = randaugment(images, ops, signs)
    return images if patches is None else shuffle(images, patches)


def randaugment(images: torch.Tensor, ops: IntArray, signs: IntArray) -> torch.Tensor:
    """Images u8 [m, h, w, 3] after the steps `ops`, `signs` i64 [m, steps], first to last.

    Raises `DataError` for images that are not u8: the operations are defined on 256 values, and have no gradient.
    """
    found = str(images.dtype).removeprefix("torch.")
    require(images.dtype == torch.uint8, f"views: RandAugment changes images of type uint8, got {found}; give uint8")
    pixels = images.permute(0, 3, 1, 2)
    places = np.arange(len(ops))  # the row of each image, where it lies now
    for op, sign in zip(ops.T, signs.T, strict=True):
        key = (2 * op + (sign < 0))[places]
        order = np.argsort(key, kind="stable")
        places, key = places[order], key[order]
        pixels = pixels.index_select(0, torch.from_numpy(order).to(images.device))
        kinds, starts = np.unique(key, return_index=True)
        stops = np.append(starts, len(key))[1:]
        for kind, start, stop in zip(kinds.tolist(), starts, stops, strict=True):
            pixels[start:stop] = change(pixels[start:stop], _NAMES[kind // 2], -1 if kind % 2 else 1)
    return pixels.index_select(0, torch.from_numpy(np.argsort(places)).to(images.device)).permute(0, 2, 3, 1)


def strength(name: str, height: int, width: int) -> float:
    """The magnitude of bin 9, in the units of torchvision and rounded as there (f32)."""
    top = OPERATIONS[name][0]
    if name == "Posterize":  # bits that stay
        return 8.0 - round(BIN / ((BINS - 1) / top))
    if name == "Solarize":  # values from here on are inverted
        return float(torch.linspace(top, 0.0, BINS)[BIN])
    side = {"TranslateX": width, "TranslateY": height}.get(name, 1)
    return float(torch.linspace(0.0, top * side, BINS)[BIN])


def change(pixels: torch.Tensor, name: str, sign: int) -> torch.Tensor:
    """One operation on a batch u8 [m, 3, h, w]; uncovered pixels are black, sampling is to the nearest."""
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


def shuffle(images: torch.Tensor, patches: IntArray) -> torch.Tensor:
    """Images [m, h, w, c] whose patch at place p, row by row, is the patch `patches[:, p]` (i64 [m, f * f]) of what
    they were. Raises `DataError` when f does not divide the sides."""
    m, height, width, channels = images.shape
    f = isqrt(patches.shape[1])
    fits = height % f == 0 and width % f == 0
    require(fits, f"views: shuffle {f} does not divide images of {height} x {width} pixels; choose a divisor")
    cells = images.reshape(m, f, height // f, f, width // f, channels).transpose(2, 3).flatten(1, 2)
    rows = torch.arange(m, device=images.device)[:, None]
    moved = cells[rows, torch.from_numpy(patches).to(images.device)]
    return moved.view(m, f, f, *cells.shape[2:]).transpose(2, 3).reshape(m, height, width, channels)
