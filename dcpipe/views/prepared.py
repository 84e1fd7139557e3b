"""Parameters of views in the form in which pixels need them, on the device where the pixels are.

`Views` are drawn in float64 on the host. Preparing them computes everything there that does not depend on the pixels,
and copies the results to the device once: for a batch, or for all views of an epoch. Batches of an epoch are then
slices, for which nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dcpipe.types import IntArray
from dcpipe.views import siamese
from dcpipe.views.device import send
from dcpipe.views.draw import Views


@dataclass(frozen=True, eq=False)
class PreparedViews:
    """m views of `size` pixels. A slice of them shares their memory.

    Attributes:
        size: the side of a view in pixels.
        maps: f32 [m, 2, 2]; [j, 0] are factors and [j, 1] offsets, across and down, which map the view's [-1, 1] to the
            crop in the image's [-1, 1].
        box: f32 [m, 2, 2] or None; the first and last place of the crop, across and down, in the image's [-1, 1], for
            views that stay inside (`Views.inside`).
        pasted: i64 [m, 4] or None; the box of the mix in pixels of the view.
        unmixed_share: f32 [m, 1] or None; lambda.
        patches: i64 [m, f * f] or None; as in `Views`.
        amounts: f32 [m, 12] or None; those of siamese augmentation (`siamese.amounts_of`).
        ops, signs, after: as in `Views`, and in host memory: which operations run decides how many calls a batch takes.
            Only policies with RandAugment or siamese augmentation have them. Each of their operations sends the numbers
            of its rows to the device, without waiting for it.
        normalised: whether the images are normalised or whitened, and not in [0, 1].
    """

    size: int
    maps: torch.Tensor
    box: torch.Tensor | None = None
    pasted: torch.Tensor | None = None
    unmixed_share: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    amounts: torch.Tensor | None = None
    ops: IntArray | None = None
    signs: IntArray | None = None
    after: siamese.Drawn | None = None
    normalised: bool = False

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, span: slice) -> PreparedViews:
        kinds = (torch.Tensor, np.ndarray, siamese.Drawn)
        sliced: dict[str, Any] = {name: held[span] for name, held in vars(self).items() if isinstance(held, kinds)}
        return replace(self, **sliced)


def prepare(
    views: Views, size: int, height: int, width: int, device: torch.device, mixed: bool, normalised: bool = False
) -> PreparedViews:
    """Prepare views of `size` pixels of images of height x width pixels; `mixed` tells whether the mix is needed, and
    `normalised` whether the images are normalised or whitened already."""
    left, top, wide, tall = views.box.T
    factors = np.stack([np.where(views.flip, -wide, wide), tall], axis=1)
    offsets = np.stack([2 * left + wide - 1, 2 * top + tall - 1], axis=1)
    box = None
    if views.inside:
        half = 0.5 / np.array([width, height])
        first = 2 * (views.box[:, :2] + half) - 1
        last = 2 * (views.box[:, :2] + views.box[:, 2:] - half) - 1
        box = send(np.stack([first, last], axis=1).astype(np.float32), device)
    return PreparedViews(
        size,
        send(np.stack([factors, offsets], axis=1).astype(np.float32), device),
        box,
        send(views.pixels(size), device) if mixed else None,
        send(views.unmixed_share(size).astype(np.float32)[:, None], device) if mixed else None,
        None if views.patches is None else send(views.patches, device),
        None if views.after is None else send(siamese.amounts_of(views.after, size).astype(np.float32), device),
        views.ops,
        views.signs,
        views.after,
        normalised,
    )
