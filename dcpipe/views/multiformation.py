"""Multi-formation: one stored image is a grid of f x f small ones, each enlarged to a training image (Kim et al.,
"Dataset Condensation via Efficient Synthetic-Data Parameterization", IDC, ICML 2022, Section 4).

The same bytes then hold f * f times as many training images, and neighbouring ones share no pixel. Condensed images
hold more detail than students need. Cells are in row-major order: cell k lies in row k // f and column k % f. If f does
not divide a side, the image is padded on the right and at the bottom. For example, 224 pixels in three cells are 75, 75
and 74, and the last cell sees one line of padding.

Decoded images appear in two orders. `decode` is cell-major, like the official code: cell 0 of all images, then cell 1
of all images; this is what a loss sees. `decoded` keeps the cells of an image together, so that a prefix of the stored
images of a class is a prefix of its decoded images. The subset S[n] of MDC ("Multisize Dataset Condensation", He et
al., ICLR 2024) has a meaning in each order: the first n stored images (the paper), or the first n * f * f cells in
cell-major order (the official code, and so the files that its authors published). With f = 1 both are the same.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dcpipe.types import By, ImageSet, IntArray, require

Kind = Literal["single", "multi", "bound"]

_BLOCK_BYTES = 32 * 2**20  # memory for 32-bit pixels while a set is decoded


class Segment(NamedTuple):
    """The stored images `start`..`stop` - 1 of a class, which decode with `factor`."""

    factor: int
    start: int
    stop: int


def plan(n: int, factor: int, kind: Kind = "single", bound: int | None = None) -> tuple[Segment, ...]:
    """Which of n stored images decode with which factor; `decode` appends the parts in this order.

    `single`: all images with `factor`. `multi`: all images with each of 1..factor. `bound`: greedily, from `factor`
    down to 1. Each factor g takes as many of the next images as keep the total within `bound` if all images after them
    decode to one each: min(left, (room - left) // g^2). Factor 1 takes the rest.

    Raises `DataError` for counts below 1, for an unknown kind, for a bound below n, for kind `bound` without a bound
    and for another kind with one.
    """
    require(n >= 1 and factor >= 1, f"multi-formation: n is {n} and factor is {factor}; both must be at least 1")
    require(kind in get_args(Kind), f"multi-formation: kind is {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if kind != "bound":
        require(bound is None, f"multi-formation: kind {kind!r} takes no bound, got {bound}; leave it out")
        return tuple(Segment(g, 0, n) for g in ([factor] if kind == "single" else range(1, factor + 1)))
    room = bound or 0
    require(room >= n, f"multi-formation: bound is {bound}, but {n} images decode to at least {n}; give {n} or more")
    parts, start = [], 0
    for g in range(factor, 0, -1):
        left = n - start
        stop = start + (left if g == 1 else min(left, (room - left) // g**2))
        if stop > start:
            parts.append(Segment(g, start, stop))
        room -= (stop - start) * g**2
        start = stop
    return tuple(parts)


def decode(
    images: torch.Tensor, factor: int, kind: Kind = "single", bound: int | None = None, fill: float = 0.5
) -> torch.Tensor:
    """Decode stored images f32 [..., n, 3, h, w] to training images f32 [..., N, 3, h, w], cell-major; differentiable.

    Each cell is enlarged bilinearly (half-pixel centres) to the full size. All leading dimensions, such as classes,
    are decoded in the same way. `fill` is the padding value for sides that `factor` does not divide; 0.5 is the middle
    of pixels in [0, 1]. See `plan` for N and for errors; sides too small for a grid also raise `DataError`.
    """
    parts = plan(images.shape[-4], factor, kind, bound)
    return torch.cat([_enlarged(images[..., a:b, :, :, :], g, fill) for g, a, b in parts], dim=-4)


def _enlarged(images: torch.Tensor, factor: int, fill: float) -> torch.Tensor:
    """As `decode`, for one part."""
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
    """Side of a cell in pixels, ceil(side / factor); raises `DataError` if the last cell would be padding only."""
    require(factor >= 1, f"multi-formation: factor is {factor}; give 1 or more")
    cell = -(-side // factor)
    require(
        (factor - 1) * cell < side,
        f"multi-formation: {factor} cells of {cell} pixels leave no pixel of a side of {side} to the last cell; choose "
        "a smaller factor or larger images",
    )
    return cell


def owners(n: int, factor: int, kind: Kind = "single", bound: int | None = None) -> torch.Tensor:
    """The index of the stored image that each decoded image comes from: i64 [N], in the order of `decode`."""
    return torch.cat([torch.arange(a, b).repeat(g**2) for g, a, b in plan(n, factor, kind, bound)])


def arrange(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Shrink whole images into the cells of stored ones: IDC's initialisation "mix".

    Takes n * f * f images [..., n*f*f, 3, h, w] of any dtype and returns n grids [..., n, 3, h, w]. Image k * n + i
    goes to cell k of grid i. Sampling is nearest-neighbour: pixel d of a cell of m pixels shows pixel
    floor(d * side / m). Padding belongs to no cell. Raises `DataError` if f * f does not divide the number of images,
    and for sides too small for a grid.
    """
    *lead, total, channels, height, width = images.shape
    cells = factor**2
    require(
        total % cells == 0 and total > 0,
        f"multi-formation: {total} images do not fill grids of {factor} x {factor}; give a multiple of {cells}",
    )
    row, source_row = _cells_and_sources(height, factor, images.device)
    column, source_column = _cells_and_sources(width, factor, images.device)
    stacked = images.reshape(*lead, cells, total // cells, channels, height, width).movedim(-5, -3)
    return stacked[..., row[:, None] * factor + column, source_row[:, None], source_column]


def _cells_and_sources(side: int, factor: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each pixel along a side, i64 [side]: its cell, and the pixel of the whole image that it shows."""
    cell = cell_side(side, factor)
    place = torch.arange(side, device=device)
    index = place // cell
    length = (side - index * cell).clamp(max=cell)  # the last cell may be smaller
    return index, (place - index * cell) * side // length


def decoded(images: ImageSet) -> ImageSet:
    """The training images of a set, with grid 1: the f * f cells of its first image, then those of the second, etc.

    Labels repeat; ids are `ImageSet.decoded_ids`. A set with grid 1 is returned as it is. Pixels are those of `decode`
    with fill 0.5, rounded half up. They are computed in integers, so that they are equal on every machine, because
    labels are stored for them.
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
    """The enlarged cells [m, f*f, h, w, 3] of images u8 [m, h, w, 3]."""
    m, height, width, _ = images.shape
    tall, wide = cell_side(height, factor), cell_side(width, factor)
    unit = 8 * height * width  # the value that stands for 1 after both enlargements
    # Values are doubled, so that the padding value, 255 / 2, is a whole number.
    twice = 2 * images.astype(np.int32 if 256 * unit < 2**31 else np.int64)
    margins = ((0, 0), (0, factor * tall - height), (0, factor * wide - width), (0, 0))
    padded = np.pad(twice, margins, constant_values=255).reshape(m, factor, tall, factor, wide, 3)
    cells = padded.swapaxes(2, 3).reshape(m, factor**2, tall, wide, 3)
    large: npt.NDArray[Any] = _enlarged_axis(_enlarged_axis(cells, 2, height), 3, width) + unit // 2
    large //= unit
    return large


def _enlarged_axis(cells: npt.NDArray[Any], axis: int, side: int) -> npt.NDArray[Any]:
    """Enlarge one axis linearly to `side` pixels; values come out multiplied by 2 * side."""
    cell, unit = cells.shape[axis], 2 * side
    # Pixel d lies at (d + 1/2) * cell / side - 1/2 in the small image; `place` counts this in units of 1 / unit.
    place = np.maximum((2 * np.arange(side) + 1) * cell - side, 0)
    low = place // unit
    shape = [1] * cells.ndim
    shape[axis] = side
    share = (place % unit).astype(cells.dtype).reshape(shape)
    high = np.minimum(low + 1, cell - 1)
    large: npt.NDArray[Any] = np.take(cells, low, axis) * (unit - share) + np.take(cells, high, axis) * share
    return large


def subset(images: ImageSet, ipc: int, by: By | None = None) -> ImageSet:
    """The condensed set of `ipc` images per class.

    `images`: the first `ipc` stored images of every class, as grids. `cells`: the first ipc * f * f cells of every
    class in cell-major order, decoded; for sets whose subsets were trained that way. The default is `images.by`.

    Raises `DataError` if some class has fewer than `ipc` images, and for an unknown `by`.
    """
    by = images.by if by is None else by
    require(by in get_args(By), f"multi-formation: by is {by!r}; choose one of {', '.join(get_args(By))}")
    if by == "images":
        return images.prefix(ipc)
    images.check_ipc(ipc)
    cells = images.grid**2
    per_class = np.bincount(images.labels)[images.labels]
    place: IntArray = np.arange(cells) * per_class[:, None] + images.ranks[:, None]  # [n, f*f], within the class
    keep = (place < ipc * cells).reshape(-1)
    whole = decoded(images)
    return ImageSet(whole.images[keep], whole.labels[keep], whole.ids[keep], images.classes)
