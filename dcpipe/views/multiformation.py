"""Multi-formation: one stored image is a grid of f x f small ones, each enlarged to a training image (Kim et al.,
"Dataset Condensation via Efficient Synthetic-Data Parameterization", IDC, ICML 2022, Section 4).

f * f times as many training images for the same bytes, of which nearby ones share no pixel: condensed images hold more
detail than students need. Cells are row-major, cell k lies in row k // f and column k % f. Where f does not divide a
side, it is padded right and bottom, so that cells of 224 pixels in three are 75, 75 and 74, and the last sees one line
of padding.

Two orders of the decoded images appear. `decode` is cell-major, as the official code: cell 0 of all images, then cell 1
of all; what a loss sees. `decoded` keeps the cells of an image together, so that a prefix of the stored images of a
class is a prefix of its decoded ones. What the subset S[n] of MDC means ("Multisize Dataset Condensation", He et al.,
ICLR 2024) follows from it: its first n stored images (the paper), or its first n * f * f cells, cell-major (the
official code, and so the files that its authors published). With f = 1 both are the same.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dcpipe.types import By, ImageSet, IntArray, require

Kind = Literal["single", "multi", "bound"]

_BLOCK_BYTES = 32 * 2**20  # of 32-bit pixels, while a set is decoded


class Part(NamedTuple):
    """Stored images `start`..`stop` - 1 of a class decode with `factor`."""

    factor: int
    start: int
    stop: int


def plan(n: int, factor: int, kind: Kind = "single", bound: int | None = None) -> tuple[Part, ...]:
    """Which of n stored images decode with which factor; `decode` appends the parts in this order.

    `single`: all with `factor`. `multi`: all with each of 1..factor. `bound`: greedily from `factor` down to 1, each
    factor g takes as many of the next images as keep the total within `bound` if every image g is not given decodes to
    one: min(left, (room - left) // g^2). At g = 1 the rest follows.

    Raises `DataError` for counts below 1, an unknown kind, and a bound that is missing, out of place or below n.
    """
    require(n >= 1 and factor >= 1, f"multi-formation: {n} images in grids of factor {factor}; give at least 1 of each")
    require(kind in get_args(Kind), f"multi-formation: kind is {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if kind != "bound":
        require(bound is None, f"multi-formation: kind {kind!r} takes no bound, got {bound}; choose kind 'bound'")
        return tuple(Part(g, 0, n) for g in ([factor] if kind == "single" else range(1, factor + 1)))
    room = bound or 0
    require(room >= n, f"multi-formation: {n} images cannot decode to at most {bound}; give a bound of {n} or more")
    parts, start = [], 0
    for g in range(factor, 0, -1):
        left = n - start
        stop = start + (left if g == 1 else min(left, (room - left) // g**2))
        if stop > start:
            parts.append(Part(g, start, stop))
        room -= (stop - start) * g**2
        start = stop
    return tuple(parts)


def decode(
    images: torch.Tensor, factor: int, kind: Kind = "single", bound: int | None = None, fill: float = 0.5
) -> torch.Tensor:
    """Training images f32 [..., N, 3, h, w] of stored ones f32 [..., n, 3, h, w], cell-major; differentiable.

    Each cell is enlarged bilinearly (half-pixel centres) to full size. Leading dimensions, such as classes, decode
    alike. `fill` pads sides that `factor` does not divide; 0.5 is the middle of pixels in [0, 1]. For N, and errors,
    see `plan`; sides too small for a grid raise `DataError`.
    """
    parts = plan(images.shape[-4], factor, kind, bound)
    return torch.cat([_enlarged(images[..., a:b, :, :, :], g, fill) for g, a, b in parts], dim=-4)


def _enlarged(images: torch.Tensor, factor: int, fill: float) -> torch.Tensor:
    """As `decode`, of one part."""
    if factor == 1:
        return images
    *lead, n, channels, height, width = images.shape
    tall, wide = cell_side(height, factor), cell_side(width, factor)
    padded = F.pad(images, (0, factor * wide - width, 0, factor * tall - height), value=fill)
    grid = padded.reshape(*lead, n, channels, factor, tall, factor, wide)
    cells = grid.movedim((-4, -2), (-6, -5)).reshape(-1, channels, tall, wide)
    large = F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=False)
    return large.reshape(*lead, factor**2 * n, channels, height, width)


def cell_side(side: int, factor: int) -> int:
    """Pixels of a cell's side, ceil(side / factor); raises `DataError` where the last cell would be padding alone."""
    require(factor >= 1, f"multi-formation: factor is {factor}; give 1 or more")
    cell = -(-side // factor)
    require(
        (factor - 1) * cell < side,
        f"multi-formation: {factor} cells of {cell} pixels leave the last one nothing of a side of {side}; choose a "
        "smaller factor or larger images",
    )
    return cell


def owners(n: int, factor: int, kind: Kind = "single", bound: int | None = None) -> torch.Tensor:
    """Which stored image each decoded one comes from: i64 [N], in the order of `decode`."""
    return torch.cat([torch.arange(a, b).repeat(g**2) for g, a, b in plan(n, factor, kind, bound)])


def arrange(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Stored images [..., n, 3, h, w] whose cells show n * f * f whole ones [..., n*f*f, 3, h, w] of any dtype: IDC's
    initialisation "mix". Image k * n + i is shrunk into cell k of image i.

    Shrunk to the nearest: pixel d of a cell of m shows pixel floor(d * side / m). Padding belongs to no cell. Raises
    `DataError` when f * f does not divide the number of images, and for sides too small for a grid.
    """
    *lead, total, channels, height, width = images.shape
    cells = factor**2
    require(
        total % cells == 0 and total > 0,
        f"multi-formation: {total} images do not fill grids of {factor} x {factor}; give a multiple of {cells}",
    )
    row, shown_row = _placed(height, factor, images.device)
    column, shown_column = _placed(width, factor, images.device)
    stacked = images.reshape(*lead, cells, total // cells, channels, height, width).movedim(-5, -3)
    return stacked[..., row[:, None] * factor + column, shown_row[:, None], shown_column]


def _placed(side: int, factor: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each pixel along a side, i64 [side]: its cell, and the pixel of a whole image that it shows."""
    cell = cell_side(side, factor)
    place = torch.arange(side, device=device)
    index = place // cell
    own = (side - index * cell).clamp(max=cell)  # the last cell may be smaller
    return index, (place - index * cell) * side // own


def decoded(images: ImageSet) -> ImageSet:
    """The training images of a set, grid 1: the f * f cells of its first image, then of its second, and so on.

    Labels repeat; ids are `ImageSet.decoded_ids`. A set of grid 1 is returned as it is. Pixels are those of `decode`
    with fill 0.5, rounded, halves up, in integer arithmetic: equal on every machine, for labels are stored for them.
    """
    if images.grid == 1:
        return images
    n, height, width, _ = images.images.shape
    cells = images.grid**2
    out = np.empty((n, cells, height, width, 3), dtype=np.uint8)
    step = max(1, _BLOCK_BYTES // (4 * cells * height * width * 3))
    for start in range(0, n, step):
        out[start : start + step] = _enlarged_exactly(images.images[start : start + step], images.grid)
    pixels = out.reshape(n * cells, height, width, 3)
    return ImageSet(pixels, images.decoded_labels, images.decoded_ids, images.classes)


def _enlarged_exactly(images: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[Any]:
    """Cells of images u8 [m, h, w, 3], enlarged: [m, f*f, h, w, 3]."""
    m, height, width, _ = images.shape
    tall, wide = cell_side(height, factor), cell_side(width, factor)
    unit = 8 * height * width  # what a pixel of value 1 has become in the end
    # In twice their value, so that the padding, 255 / 2, is a whole number.
    twice = 2 * images.astype(np.int32 if 256 * unit < 2**31 else np.int64)
    margins = ((0, 0), (0, factor * tall - height), (0, factor * wide - width), (0, 0))
    padded = np.pad(twice, margins, constant_values=255).reshape(m, factor, tall, factor, wide, 3)
    cells = padded.swapaxes(2, 3).reshape(m, factor**2, tall, wide, 3)
    large: npt.NDArray[Any] = _between(_between(cells, 2, height), 3, width) + unit // 2
    large //= unit
    return large


def _between(cells: npt.NDArray[Any], axis: int, side: int) -> npt.NDArray[Any]:
    """Bilinear enlargement along an axis to `side` pixels, times 2 * side."""
    cell, unit = cells.shape[axis], 2 * side
    # Pixel d lies at (d + 1/2) * cell / side - 1/2 of the small image, here in parts of 1 / unit.
    place = np.maximum((2 * np.arange(side) + 1) * cell - side, 0)
    low = place // unit
    shape = [1] * cells.ndim
    shape[axis] = side
    share = (place % unit).astype(cells.dtype).reshape(shape)
    high = np.minimum(low + 1, cell - 1)
    large: npt.NDArray[Any] = np.take(cells, low, axis) * (unit - share) + np.take(cells, high, axis) * share
    return large


def subset(images: ImageSet, ipc: int, by: By | None = None) -> ImageSet:
    """The condensed set of `ipc` images per class; `by` is the set's own unless it is given. `images`: the first stored
    ones of every class, as grids. `cells`: the first ipc * f * f cells of every class, cell-major, decoded.

    Raises `DataError` for an ipc that some class lacks and an unknown `by`.
    """
    by = images.by if by is None else by
    require(by in get_args(By), f"multi-formation: subsets are by {by!r}; choose one of {', '.join(get_args(By))}")
    if by == "images":
        return images.prefix(ipc)
    images.check_ipc(ipc)
    cells = images.grid**2
    held = np.bincount(images.labels)[images.labels]
    place: IntArray = np.arange(cells) * held[:, None] + images.ranks[:, None]  # [n, f*f], within the class
    keep = (place < ipc * cells).reshape(-1)
    whole = decoded(images)
    return ImageSet(whole.images[keep], whole.labels[keep], whole.ids[keep], images.classes)
