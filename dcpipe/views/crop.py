"""Apply views to whole batches of pixels on the device: crop and flip, CutMix, normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dcpipe.types import Colour
from dcpipe.views import randaugment, siamese
from dcpipe.views.device import constant, send
from dcpipe.views.draw import Views
from dcpipe.views.prepared import PreparedViews, prepare


def crop(images: torch.Tensor, views: Views, size: int) -> torch.Tensor:
    """Crop and flip one view of each image: u8 or f32 [m, h, w, 3] -> f32 [m, 3, size, size].

    The result is in [0, 1] if the images are, except that siamese augmentation may leave that range. Sampling is
    bilinear at pixel centres (`align_corners=False`, border padding) without antialiasing, because crops of condensed
    images are enlarged, not shrunk. The whole batch takes one call.
    """
    height, width = images.shape[1:3]
    return crop_prepared(images, prepare(views, size, height, width, images.device, mixed=False))


def crop_prepared(images: torch.Tensor, views: PreparedViews) -> torch.Tensor:
    """As `crop`, for views that are prepared for images of this size on their device."""
    if views.ops is not None or views.patches is not None:
        images = randaugment.apply(images, views.ops, views.signs, views.patches)
    device, size = images.device, views.size
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if images.dtype == torch.uint8:
        pixels = pixels.div_(255.0)  # in place: the conversion from u8 made a copy
    # Along each axis a linear map takes the view's [-1, 1] to the box in the image's [-1, 1]. Combining the two axes
    # gives the grid that `affine_grid` computes for a box, at a third of the cost.
    maps = views.maps.permute(1, 2, 0)
    centres = (2 * torch.arange(size, device=device, dtype=torch.float32) + 1) / size - 1
    across, down = torch.addcmul(maps[1][:, :, None], maps[0][:, :, None], centres)
    grid = torch.empty(len(views), size, size, 2, device=device)
    grid[..., 0], grid[..., 1] = across[:, None, :], down[:, :, None]
    if views.box is not None:
        first, last = views.box[:, 0, None, None], views.box[:, 1, None, None]
        grid = torch.minimum(torch.maximum(grid, first), last)
    sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if views.after is None:
        return sampled
    augment = siamese.apply if views.normalised else siamese.on_pixels
    return augment(sampled, views.after, views.amounts)


def paste(inputs: torch.Tensor, partners: torch.Tensor, views: Views) -> torch.Tensor:
    """CutMix: `inputs` [m, 3, s, s] with the mix box of each view replaced by the same pixels of `partners`,
    another batch of views of the same shape."""
    return paste_box(inputs, partners, send(views.pixels(inputs.shape[-1]), inputs.device))


def paste_box(inputs: torch.Tensor, partners: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """`inputs` [m, 3, s, s] with the pixels inside `bounds` replaced by those of `partners`.

    `bounds` is i64 [m, 4] on their device, or [1, 4] for one box in all images.
    """
    line = torch.arange(inputs.shape[-1], device=inputs.device)
    across = (line >= bounds[:, 0:1]) & (line < bounds[:, 2:3])
    down = (line >= bounds[:, 1:2]) & (line < bounds[:, 3:4])
    inside = (down[:, :, None] & across[:, None, :])[:, None]
    return torch.where(inside, partners, inputs)


def normalise(inputs: torch.Tensor, mean: Colour, std: Colour) -> torch.Tensor:
    """(inputs - mean) / std per channel, for inputs [m, 3, h, w] in [0, 1]."""
    centre, scale = (constant(tuple(c), inputs.device, inputs.dtype).view(1, 3, 1, 1) for c in (mean, std))
    return (inputs - centre) / scale
