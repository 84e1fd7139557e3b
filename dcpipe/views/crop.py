"""Apply views to whole batches of pixels on the device: crop and flip, CutMix, normalisation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe.types import Colour, IntArray
from dcpipe.views import randaugment, siamese
from dcpipe.views.draw import Views


def crop(images: torch.Tensor, views: Views, size: int) -> torch.Tensor:
    """Crop and flip one view of each image: u8 or f32 [m, h, w, 3] -> f32 [m, 3, size, size].

    The result is in [0, 1], except that siamese augmentation may leave that range. Sampling is bilinear at pixel
    centres (`align_corners=False`, border padding) without antialiasing, because crops of condensed images are
    enlarged, not shrunk. The whole batch takes one call.
    """
    if views.ops is not None or views.patches is not None:
        images = randaugment.apply(images, views.ops, views.signs, views.patches)
    device = images.device
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if images.dtype == torch.uint8:
        pixels = pixels.div_(255.0)  # in place: the conversion from u8 made a copy
    left, top, width, height = views.box.T
    # Along each axis a linear map takes the view's [-1, 1] to the box in the image's [-1, 1]. Combining the two axes
    # gives the grid that `affine_grid` computes for a box, at a third of the cost.
    scales = np.stack([np.where(views.flip, -width, width), height])
    offsets = np.stack([2 * left + width - 1, 2 * top + height - 1])
    maps = torch.from_numpy(np.stack([scales, offsets]).astype(np.float32)).to(device, non_blocking=True)
    centres = (2 * torch.arange(size, device=device, dtype=torch.float32) + 1) / size - 1
    across, down = torch.addcmul(maps[1][:, :, None], maps[0][:, :, None], centres)
    grid = torch.empty(len(views), size, size, 2, device=device)
    grid[..., 0], grid[..., 1] = across[:, None, :], down[:, :, None]
    if views.inside:
        half = 0.5 / np.array([pixels.shape[3], pixels.shape[2]])
        first = 2 * (views.box[:, :2] + half) - 1
        last = 2 * (views.box[:, :2] + views.box[:, 2:] - half) - 1
        low, high = (torch.from_numpy(edge.astype(np.float32)).to(device)[:, None, None] for edge in (first, last))
        grid = torch.minimum(torch.maximum(grid, low), high)
    sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled if views.after is None else siamese.on_pixels(sampled, views.after)


def paste(inputs: torch.Tensor, partners: torch.Tensor, views: Views) -> torch.Tensor:
    """CutMix: `inputs` [m, 3, s, s] with the mix box of each view replaced by the same pixels of `partners`,
    another batch of views of the same shape."""
    return paste_box(inputs, partners, views.pixels(inputs.shape[-1]))


def paste_box(inputs: torch.Tensor, partners: torch.Tensor, bounds: IntArray) -> torch.Tensor:
    """`inputs` [m, 3, s, s] with the pixels inside `bounds` replaced by those of `partners`.

    `bounds` is i64 [m, 4], or [1, 4] for one box in all images.
    """
    edges = torch.from_numpy(bounds).to(inputs.device)
    line = torch.arange(inputs.shape[-1], device=inputs.device)
    across = (line >= edges[:, 0:1]) & (line < edges[:, 2:3])
    down = (line >= edges[:, 1:2]) & (line < edges[:, 3:4])
    inside = (down[:, :, None] & across[:, None, :])[:, None]
    return torch.where(inside, partners, inputs)


def take(tensor: torch.Tensor, rows: IntArray) -> torch.Tensor:
    """Rows of a tensor, gathered on its own device."""
    return tensor.index_select(0, torch.from_numpy(rows).to(tensor.device))


def normalise(inputs: torch.Tensor, mean: Colour, std: Colour) -> torch.Tensor:
    """(inputs - mean) / std per channel, for inputs [m, 3, h, w] in [0, 1]."""
    centre = torch.tensor(mean, device=inputs.device, dtype=inputs.dtype).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=inputs.device, dtype=inputs.dtype).view(1, 3, 1, 1)
    return (inputs - centre) / scale
