"""What recovery starts from: noise, the selected images, or RDED's mosaics.

SRe2L, CDA and G-VBSM start from noise; EDC starts from real images (Shao et al., NeurIPS 2024, "real image
initialization"). EDC's scripts use RDED's mosaics, with `factor` 2 at 224 pixels and 1 at 32 and 64.

A start is a function from rows to their pixels, so that only those of a batch are on the device: in float32 those of
ImageNet-1K at 50 images per class are 30 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import views
from dcpipe.config.values import one_of
from dcpipe.random import Draw, words_from
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.rded import rded
from dcpipe.types import Colour, ImageSet, IntArray

Images = npt.NDArray[np.uint8]
# Normalised pixels f32 [m, 3, s, s] on the device, for rows i64 [m] of the set.
Pixels = Callable[[IntArray], torch.Tensor]


def initial(
    name: str,
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    mean: Colour,
    std: Colour,
    observers: list[str] | None = None,
    factor: int = 1,
    candidates: int = 300,
    crops: int = 5,
    batch_size: int = 256,
    once: Callable[[Callable[[], ImageSet]], Images] = lambda make: make().images,
) -> Pixels:
    """The pixels, normalised by `mean` and `std`, of the rows of `start`.

    `name` is a key of `INITIALS`. `observers` and the options after it are those of `rded`; the other starts ignore
    them. `once(make)` gives the images that `make` computes, which a killed run should not compute again. Raises
    `DataError` where `rded` does.
    """
    search = {
        "observers": observers,
        "factor": factor,
        "candidates": candidates,
        "crops": crops,
        "batch_size": batch_size,
        "once": once,
    }
    return INITIALS[name](start, context, seed, progress, mean=mean, std=std, **search)


def noise(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    mean: Colour,
    std: Colour,
    **search: Any,
) -> Pixels:
    """Standard normal numbers in normalised space. Those of a row depend only on (seed, row).

    Box and Muller's transform of pairs (u, v) of 32-bit numbers, sqrt(-2 log u) times cos(2 pi v) and sin(2 pi v), from
    the generator of `dcpipe.random`. Torch's generator uses only 32 bits of its seed, too few to give each of many
    images its own noise.
    """
    size = start.images.shape[1]

    def pixels(rows: IntArray) -> torch.Tensor:
        drawn = [_normal(seed, row, 3 * size * size).reshape(3, size, size) for row in rows.tolist()]
        return torch.from_numpy(np.stack(drawn)).to(context.device)

    return pixels


def _normal(seed: int, row: int, count: int) -> npt.NDArray[np.float32]:
    """Standard normal numbers f32 [count] of one row."""
    words = words_from(seed, Draw.NOISE, row, -(-count // 2))
    u = ((words >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32  # never 0
    v = words.astype(np.uint32).astype(np.float64) * 2.0**-32  # of the lower halves
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1)[:count].astype(np.float32)


def real(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    mean: Colour,
    std: Colour,
    **search: Any,
) -> Pixels:
    """The selected images themselves."""
    return _pixels_of(start.images, context.device, mean, std)


def _pixels_of(images: Images, device: torch.device, mean: Colour, std: Colour) -> Pixels:
    def pixels(rows: IntArray) -> torch.Tensor:
        whole = torch.from_numpy(images[rows]).to(device).permute(0, 3, 1, 2).to(torch.float32) / 255
        return views.normalise(whole, mean, std).contiguous()

    return pixels


def mosaics(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    mean: Colour,
    std: Colour,
    once: Callable[[Callable[[], ImageSet]], Images],
    **search: Any,
) -> Pixels:
    """Mosaics of the crops that observers classify with the lowest loss, see `rded`."""
    made = once(lambda: rded(start, context, seed, progress, **search))
    return _pixels_of(made, context.device, mean, std)


INITIALS: dict[str, Callable[..., Pixels]] = {"noise": noise, "real": real, "rded": mosaics}
Initial = Annotated[str, one_of(INITIALS)]
