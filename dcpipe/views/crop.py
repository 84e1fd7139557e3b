"""Views applied to whole batches of pixels on the device: cut and flipped, pasted, normalised."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe.types import Colour, IntArray
from dcpipe.views import randaugment, siamese
from dcpipe.views.draw import Views


def crop(images: torch.Tensor, views: Views, size: int) -> torch.Tensor:
    """Cut and flip: images u8 or f32 [m, h, w, 3] -> f32 [m, 3, size, size], in [0, 1] but for siamese augmentation.

    Bilinear sampling at pixel centres (`align_corners=False`, border padding), no antialiasing: crops of
    condensed images are enlarged, not shrunk. One call for the whole batch.
    """
    if views.ops is not None or views.patches is not None:
        images = randaugment.apply(images, views.ops, views.signs, views.patches)
    device = images.device
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if images.dtype == torch.uint8:
        pixels = pixels.div_(255.0)  # a copy of ours
    left, top, width, height = views.box.T
    # Maps of the view's [-1, 1] to the box in the image's [-1, 1], across and down: what `affine_grid` makes of a box
    # is the outer combination of the two, at a third of its cost.
    slopes = np.stack([np.where(views.flip, -width, width), height])
    starts = np.stack([2 * left + width - 1, 2 * top + height - 1])
    maps = torch.from_numpy(np.stack([slopes, starts]).astype(np.float32)).to(device, non_blocking=True)
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
    seen = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen if views.after is None else siamese.on_pixels(seen, views.after)


def paste(inputs: torch.Tensor, partners: torch.Tensor, views: Views) -> torch.Tensor:
    """CutMix: inputs [m, 3, s, s] with each view's box taken from `partners`, another batch of views."""
    return paste_box(inputs, partners, views.pixels(inputs.shape[-1]))


def paste_box(inputs: torch.Tensor, partners: torch.Tensor, bounds: IntArray) -> torch.Tensor:
    """Inputs [m, 3, s, s] with the pixels inside `bounds` taken from `partners`: i64 [m, 4], or [1, 4] for one box in
    all of them."""
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
    """(inputs - mean) / std by channel, for inputs [m, 3, h, w] in [0, 1]."""
    centre = torch.tensor(mean, device=inputs.device, dtype=inputs.dtype).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=inputs.device, dtype=inputs.dtype).view(1, 3, 1, 1)
    return (inputs - centre) / scale
