"""What recovery starts from: noise, the selected images, or RDED's mosaics.

SRe2L, CDA and G-VBSM start from noise; EDC starts from real images (Shao et al., NeurIPS 2024, "real image
initialization"). EDC's scripts use RDED's mosaics, with `factor` 2 at 224 pixels and 1 at 32 and 64.
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
from dcpipe.types import Colour, ImageSet


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
) -> torch.Tensor:
    """Pixels f32 [n, 3, s, s] on `context.device`, normalised by `mean` and `std`, for the rows of `start`.

    `name` is a key of `INITIALS`. `observers` and the options after it are those of `rded`; the other starts ignore
    them. Raises `DataError` where `rded` does.
    """
    search = {
        "observers": observers,
        "factor": factor,
        "candidates": candidates,
        "crops": crops,
        "batch_size": batch_size,
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
) -> torch.Tensor:
    """Standard normal numbers in normalised space. Those of a row depend only on (seed, row).

    Box and Muller's transform of pairs (u, v) of 32-bit numbers, sqrt(-2 log u) times cos(2 pi v) and sin(2 pi v), from
    the generator of `dcpipe.random`. Torch's generator uses only 32 bits of its seed, too few to give each of many
    images its own noise.
    """
    size = start.images.shape[1]
    pixels = torch.empty(len(start), 3, size, size, device=context.device)
    for row in range(len(start)):
        pixels[row] = torch.from_numpy(_normal(seed, row, 3 * size * size).reshape(3, size, size))
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
) -> torch.Tensor:
    """The selected images themselves."""
    pixels = torch.from_numpy(start.images).to(context.device).permute(0, 3, 1, 2).to(torch.float32) / 255
    return views.normalise(pixels, mean, std).contiguous()


def mosaics(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    mean: Colour,
    std: Colour,
    **search: Any,
) -> torch.Tensor:
    """Mosaics of the crops that observers classify with the lowest loss, see `rded`."""
    return real(rded(start, context, seed, progress, **search), context, seed, progress, mean=mean, std=std)


INITIALS: dict[str, Callable[..., torch.Tensor]] = {"noise": noise, "real": real, "rded": mosaics}
Initial = Annotated[str, one_of(INITIALS)]
