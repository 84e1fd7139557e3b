"""Differentiable siamese augmentation: two batches, such as real and synthetic images, may share every draw.

Zhao & Bilen, "Dataset condensation with differentiable siamese augmentation" (DSA), ICML 2021, with the constants that
its code and IDC's (Kim et al., ICML 2022) agree on. For an image x [3, s, s] and numbers u in [0, 1):

* `flip`: mirror left and right if u < .5.
* `color`: x + (u - .5); then m + 2u (x - m) with m the mean over the channels of each pixel; then
  m + (u + .5)(x - m) with m the mean of the image.
* `crop`: shift by -p..p pixels down and across, p = round(s / 8), and fill with zeros.
* `scale`: shrink to 1/z of the side, with a separate z ~ U[1/1.2, 1.2] for height and width, and fill with zeros
  (bilinear).
* `rotate`: rotate by U[-15, 15) degrees about the centre and fill with zeros (bilinear).
* `cutout`: zeros in a square of side round(s / 2) around a uniform place; the square may hang over the border.

A *strategy* names operations, for example `color_crop_cutout`. It follows IDC's rule: flip, color and cutout run
whenever they are named, and exactly one of the named crop, scale and rotate runs. With `dsa:` before the names it
follows DSA's rule: exactly one of all named operations runs. Operations always run in the order of the list above.
Zeros and offsets are meant for normalised images; use `on_pixels` for images in [0, 1].

Where we differ: the official code draws once per batch which operation runs; here every row of numbers draws it.
Cost: a few passes over the pixels, one `grid_sample` each for scale and rotate, and one small copy to the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dcpipe.random import Draw
from dcpipe.types import FloatArray, IntArray, require
from dcpipe.types.labels import SIAMESE, siamese_operations
from dcpipe.views.device import constant, send

ALWAYS = ("flip", "color", "cutout")  # under IDC's rule
ZOOM, DEGREES, PAD, HOLE = 1.2, 15.0, 0.125, 0.5

# Mean and std that `on_pixels` normalises with: IDC's for CIFAR-10 and CIFAR-100.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

# Which of the twelve numbers each operation uses, whatever the strategy names. Number 4 chooses between operations.
FLIP, COLOR, CHOICE, CROP, SCALE, ROTATE, CUTOUT = 0, slice(1, 4), 4, slice(5, 7), slice(7, 9), 9, slice(10, 12)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws for m images, or for m groups of images that share a draw. Indexing selects rows.

    `numbers` f64 [m, 12] are in [0, 1). `runs` bool [m, 6] says which operations run, in the order of
    `types.labels.SIAMESE`.
    """

    numbers: FloatArray
    runs: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: slice | npt.NDArray[np.bool_] | IntArray) -> Drawn:
        return Drawn(self.numbers[index], self.runs[index])


def draw(strategy: str, numbers: Callable[[int], FloatArray]) -> Drawn:
    """Draw numbers and operations for a strategy.

    `numbers(d)` returns f64 [m, 4] in [0, 1) for draw number d of the generator, with one row for each of m draws. For
    example, this gives one draw per class in every step, which the real and the synthetic images of the class share:
    `draw("color_crop_cutout", lambda d: uniform(philox(seed, step, d, classes)))`.

    Raises `DataError` if the strategy names no operation, an unknown one, or one twice.
    """
    rule, named = siamese_operations(strategy)
    u = np.concatenate([numbers(d) for d in Draw.SIAMESE.numbers], axis=1)
    runs = np.zeros((len(u), len(SIAMESE)), dtype=np.bool_)
    always = [SIAMESE.index(name) for name in named if rule == "idc" and name in ALWAYS]
    choice = np.array([SIAMESE.index(name) for name in named if rule == "dsa" or name not in ALWAYS], dtype=np.int64)
    runs[:, always] = True
    if len(choice):
        runs[np.arange(len(u)), choice[(u[:, CHOICE] * len(choice)).astype(np.int64)]] = True
    return Drawn(u, runs)


def apply(images: torch.Tensor, drawn: Drawn, amounts: torch.Tensor | None = None) -> torch.Tensor:
    """Augment normalised images f32 or f64 [m, channels, s, s] as drawn; differentiable.

    The images form k equal consecutive groups, and group j shares row j of the k rows drawn: one row for a whole batch,
    one per class for a batch sorted by class, or one per image. `amounts` [k, 12] are those of `amounts_of`, if they
    are already on the device in the dtype of the images. Raises `DataError` if k does not divide m.
    """
    m, k = len(images), len(drawn)
    if not m:
        return images
    require(
        k > 0 and m % k == 0,
        f"siamese: {m} images cannot share {k} rows of draws evenly; draw one row for all images, or one per class",
    )
    size = images.shape[-1]
    shared = images.reshape(k, m // k, *images.shape[1:])
    if amounts is None:
        amounts = send(amounts_of(drawn, size), images.device).to(images.dtype)
    for place, name in enumerate(SIAMESE):
        rows = np.flatnonzero(drawn.runs[:, place])
        if len(rows) == k:
            shared = OPERATIONS[name](shared, amounts)
        elif len(rows):
            index = send(rows, images.device)
            changed = OPERATIONS[name](shared.index_select(0, index), amounts.index_select(0, index))
            shared = shared.index_copy(0, index, changed)
    return shared.flatten(0, 1)


def on_pixels(images: torch.Tensor, drawn: Drawn, amounts: torch.Tensor | None = None) -> torch.Tensor:
    """As `apply`, for images [m, 3, s, s] in [0, 1], which are normalised with MEAN and STD meanwhile.

    Empty pixels are filled with the mean colour, and values may leave [0, 1], as they do in the official code.
    """
    mean, std = (constant(x, images.device, images.dtype).view(3, 1, 1) for x in (MEAN, STD))
    return apply((images - mean) / std, drawn, amounts) * std + mean


def amounts_of(drawn: Drawn, size: int) -> FloatArray:
    """The numbers in the units of their operations on images of `size` pixels, f64 [k, 12]: yes or no, factors, pixels
    and radians."""
    u = drawn.numbers
    amounts = u.copy()
    pad, hole = int(size * PAD + 0.5), int(size * HOLE + 0.5)
    amounts[:, FLIP] = u[:, FLIP] < 0.5
    amounts[:, COLOR] = u[:, COLOR] * [1.0, 2.0, 1.0] + [-0.5, 0.0, 0.5]
    amounts[:, CROP] = np.floor(u[:, CROP] * (2 * pad + 1)) - pad
    amounts[:, SCALE] = 1 / ZOOM + u[:, SCALE] * (ZOOM - 1 / ZOOM)
    amounts[:, ROTATE] = np.radians((2 * u[:, ROTATE] - 1) * DEGREES)
    amounts[:, CUTOUT] = np.floor(u[:, CUTOUT] * (size + 1 - hole % 2)) - hole // 2  # first row and column of the hole
    return amounts


# Each operation takes images [k, n, channels, s, s] and amounts [k, 12]; each row of amounts is for n images.


def _flip(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    return torch.where(_each(amounts[:, FLIP]) > 0, images.flip(-1), images)


def _color(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    brightness, saturation, contrast = (_each(column) for column in amounts[:, COLOR].T)
    images = images + brightness
    grey = images.mean(2, keepdim=True)
    images = grey + saturation * (images - grey)
    level = images.mean((2, 3, 4), keepdim=True)
    return level + contrast * (images - level)


def _crop(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """Shift by gathering rows, then columns; exact, because no pixel falls between two others."""
    size = images.shape[-1]
    line = torch.arange(size, device=images.device)
    pixels = images.flatten(1, 2)
    for axis, column in ((2, CROP.start), (3, CROP.start + 1)):
        source = line + amounts[:, column, None].long()
        shape = [len(source), 1, size, 1] if axis == 2 else [len(source), 1, 1, size]
        inside = ((source >= 0) & (source < size)).view(shape)
        places = source.clamp(0, size - 1).view(shape).expand_as(pixels)
        pixels = torch.where(inside, pixels.gather(axis, places), 0.0)
    return pixels.view_as(images)


def _scale(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    down, across = amounts[:, SCALE].T
    nothing = torch.zeros_like(down)
    return _warp(images, torch.stack([across, nothing, nothing, down], dim=1))


def _rotate(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    cos, sin = amounts[:, ROTATE].cos(), amounts[:, ROTATE].sin()
    return _warp(images, torch.stack([cos, -sin, sin, cos], dim=1))


def _warp(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Warp images by linear maps [k, 4] (row-major) of (x, y) in [-1, 1], each from a pixel to its source.

    The n images of a row are passed as channels of one image, so that they share its grid.
    """
    pixels = images.flatten(1, 2)
    theta = F.pad(maps.view(-1, 2, 2), (0, 1))
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    warped = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped.view_as(images)


def _cutout(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    size = images.shape[-1]
    line = torch.arange(size, device=images.device, dtype=images.dtype)
    distance = line - amounts[:, CUTOUT, None]  # from the hole's first row and column: [k, 2, s]
    inside = (distance >= 0) & (distance < int(size * HOLE + 0.5))
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]
    return torch.where(hole[:, None, None], 0.0, images)


def _each(column: torch.Tensor) -> torch.Tensor:
    """Reshape amounts [k] to broadcast over all pixels of their images."""
    return column.view(-1, 1, 1, 1, 1)


OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "flip": _flip,
    "color": _color,
    "crop": _crop,
    "scale": _scale,
    "rotate": _rotate,
    "cutout": _cutout,
}
