"""The real images whose gradients are matched: they are on the device and come in batches per class or of all classes.

Orders are functions of (seed, epoch), so a resumed run gets the same batches as an uninterrupted one.
"""

from __future__ import annotations

import numpy as np
import torch

from dcpipe import views
from dcpipe.random import ALL_CLASSES, Stream, permutation, real_images_seed
from dcpipe.synthesis.base import SynthesisContext
from dcpipe.types import IntArray, require
from dcpipe.views.whitening import Whitener

Colours = tuple[torch.Tensor, torch.Tensor]


class RealImages:
    """All train images, u8 [m, s, s, 3] on the device, with their labels; `classes[c]` are the rows of class c.

    `mean`, `std` f32 [3, 1, 1]: of the pixels in [0, 1]; batches are normalised by them, or by `whitening` instead, if
    it is set. Raises `DataError` for a class
    with fewer than `batch` images.
    """

    def __init__(self, context: SynthesisContext, n_classes: int, seed: int, batch: int) -> None:
        parts = [torch.from_numpy(images).to(context.device) for images, _ in context.real()]
        self.pixels = torch.cat(parts)
        self.labels = torch.from_numpy(context.labels).to(context.device)
        self.classes = [np.flatnonzero(context.labels == label) for label in range(n_classes)]
        smallest = int(np.argmin([len(rows) for rows in self.classes]))
        held = len(self.classes[smallest])
        require(held > 0, f"synthesis: class {smallest} has no real images to match; add some, or leave the class out")
        require(
            held >= batch,
            f"synthesis: real_batch is {batch}, but class {smallest} has {held} images; lower real_batch to {held}",
        )
        self.seed, self.batch = seed, batch
        self.mean, self.std = colours(self.pixels)
        self.whitening: Whitener | None = None
        self._orders: dict[tuple[int, int, int], IntArray] = {}

    def class_batches(self, step: int) -> IntArray:
        """Rows i64 [c, batch] of a step: drawn from each class without replacement; an exhausted class is
        reshuffled."""
        return np.stack([self._dealt(label, rows, step) for label, rows in enumerate(self.classes)])

    def _dealt(self, label: int, rows: IntArray, step: int) -> IntArray:
        epoch, place = divmod(step, len(rows) // self.batch)
        order = self._order(label, epoch, len(rows))
        return rows[order[place * self.batch : (place + 1) * self.batch]]

    def mixed_batch(self, step: int, size: int) -> IntArray:
        """Rows i64 [size] of a step, drawn from all classes together in the same way as in `class_batches`."""
        n = len(self.labels)
        size = min(size, n)
        epoch, place = divmod(step, n // size)
        return self._order(ALL_CLASSES, epoch, n)[place * size : (place + 1) * size]

    def _order(self, label: int, epoch: int, n: int) -> IntArray:
        """A permutation. The last one of each class is cached, because many steps use it."""
        key = (label, epoch, self.seed)
        if key not in self._orders:
            self._orders = {other: order for other, order in self._orders.items() if other[0] != label}
            self._orders[key] = permutation(real_images_seed(self.seed, label), Stream.REAL_IMAGES + epoch, n)
        return self._orders[key]

    def first(self, n: int) -> IntArray:
        """The first n rows of each class in random order: i64 [c, n]."""
        short = min(len(rows) for rows in self.classes)
        require(
            n <= short,
            f"synthesis: {n} real images per class are needed for the start, but a class has {short}; lower ipc",
        )
        return np.stack([self.shuffled(label)[:n] for label in range(len(self.classes))])

    def shuffled(self, label: int) -> IntArray:
        """All rows of a class in the random order of `first`: i64 [m]."""
        rows = self.classes[label]
        return rows[self._order(label, 0, len(rows))]

    def take(self, rows: IntArray, normalised: bool = True) -> torch.Tensor:
        """Images f32 [m, 3, s, s] of some rows, normalised or in [0, 1]."""
        found = views.take(self.pixels, rows).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
        return self.to_inputs(found) if normalised else found

    def to_inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images [m, 3, s, s] in [0, 1] as networks see them: normalised or whitened."""
        return (pixels - self.mean) / self.std if self.whitening is None else self.whitening(pixels)

    def to_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_inputs`."""
        return inputs * self.std + self.mean if self.whitening is None else self.whitening.undo(inputs)


def colours(pixels: torch.Tensor) -> Colours:
    """Mean and standard deviation per channel of images u8 [m, s, s, 3], scaled to [0, 1]: f32 [3, 1, 1] each.

    They are exact, because they are computed from the counts of the 256 values.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(pixels[..., k].reshape(-1), minlength=256) for k in range(3)]).double().cpu()
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]).square()).sum(1)
    std = torch.where(variance > 0, variance.sqrt(), 255.0)  # a constant channel becomes 0 and keeps its scale
    return tuple((x / 255).float().view(3, 1, 1).to(pixels.device) for x in (mean, std))  # type: ignore[return-value]
