"""The real images that gradients are matched with: on the device, dealt out by class and mixed.

Orders are functions of (seed, epoch): a resumed run is dealt what an unbroken one was.
"""

from __future__ import annotations

import numpy as np
import torch

from dcpipe import views
from dcpipe.random import ALL_CLASSES, Stream, permutation, real_images_seed
from dcpipe.synthesis.base import SynthesisContext
from dcpipe.types import IntArray, require

Colours = tuple[torch.Tensor, torch.Tensor]


class RealImages:
    """Every train image, u8 [m, s, s, 3] on the device, with its label; `classes[c]` are the rows of class c.

    `mean`, `std` f32 [3, 1, 1]: of the pixels in [0, 1], by which batches are normalised. Raises `DataError` for a
    class of fewer than `batch` images.
    """

    def __init__(self, context: SynthesisContext, n_classes: int, seed: int, batch: int) -> None:
        parts = [torch.from_numpy(images).to(context.device) for images, _ in context.real()]
        self.pixels = torch.cat(parts)
        self.labels = torch.from_numpy(context.labels).to(context.device)
        self.classes = [np.flatnonzero(context.labels == label) for label in range(n_classes)]
        smallest = int(np.argmin([len(rows) for rows in self.classes]))
        held = len(self.classes[smallest])
        require(held > 0, f"synthesis: class {smallest} has no real images to match; give it some, or leave it out")
        require(
            held >= batch,
            f"synthesis: real_batch is {batch}, but class {smallest} has {held} images; lower real_batch to {held}",
        )
        self.seed, self.batch = seed, batch
        self.mean, self.std = colours(self.pixels)
        self._orders: dict[tuple[int, int], IntArray] = {}

    def of_classes(self, step: int) -> IntArray:
        """Rows i64 [c, batch] of a step: from each class without replacement, shuffled anew when it runs out."""
        return np.stack([self._dealt(label, rows, step) for label, rows in enumerate(self.classes)])

    def _dealt(self, label: int, rows: IntArray, step: int) -> IntArray:
        epoch, place = divmod(step, len(rows) // self.batch)
        order = self._order(label, epoch, len(rows))
        return rows[order[place * self.batch : (place + 1) * self.batch]]

    def mixed(self, step: int, size: int) -> IntArray:
        """Rows i64 [size] of a step, of all classes: as `of_classes`."""
        n = len(self.labels)
        size = min(size, n)
        epoch, place = divmod(step, n // size)
        return self._order(ALL_CLASSES, epoch, n)[place * size : (place + 1) * size]

    def _order(self, label: int, epoch: int, n: int) -> IntArray:
        """A permutation; the last of each class is kept, as steps ask for it again and again."""
        key = (label, epoch)
        if key not in self._orders:
            self._orders = {other: order for other, order in self._orders.items() if other[0] != label}
            self._orders[key] = permutation(real_images_seed(self.seed, label), Stream.REAL_IMAGES + epoch, n)
        return self._orders[key]

    def first(self, n: int) -> IntArray:
        """Rows i64 [c, n] of each class: those that are dealt first."""
        short = min(len(rows) for rows in self.classes)
        require(n <= short, f"synthesis: {n} images a class are wanted to begin with, a class has {short}; lower ipc")
        return np.stack([rows[self._order(c, 0, len(rows))[:n]] for c, rows in enumerate(self.classes)])

    def take(self, rows: IntArray, normalised: bool = True) -> torch.Tensor:
        """Images f32 [m, 3, s, s] of some rows, normalised or in [0, 1]."""
        found = views.take(self.pixels, rows).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
        return (found - self.mean) / self.std if normalised else found


def colours(pixels: torch.Tensor) -> Colours:
    """Mean and standard deviation of each channel of images u8 [m, s, s, 3], as parts of 255: f32 [3, 1, 1] each.

    Exact: from the counts of the 256 values.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(pixels[..., k].reshape(-1), minlength=256) for k in range(3)]).double().cpu()
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]).square()).sum(1)
    std = torch.where(variance > 0, variance.sqrt(), 255.0)  # a channel of one value becomes 0 and keeps its scale
    return tuple((x / 255).float().view(3, 1, 1).to(pixels.device) for x in (mean, std))  # type: ignore[return-value]
