"""How well the gradient of a batch stands for that of its whole set (EDC, Fig. 2c).

For a network as it is, in evaluation mode, g is the gradient of the mean cross-entropy with hard labels with respect to
all its parameters, and cos(g(batch), g(set)) is averaged over random batches of a size without replacement. Batches of
independent images would give about 1 / sqrt(1 + noise / size), so a higher cosine at the same size says that the images
of a set agree more with each other. A batch that is the set has cosine 1, whatever the set, so that a small set comes
near 1 at sizes at which a large one does not: compare with as many real images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dcpipe import images, teacher
from dcpipe.training.curvature import Surface, Vector, cosine
from dcpipe.training.losses import cross_entropy
from dcpipe.types import Colour, ImageSet, ImageTable, IntArray
from dcpipe.views import multiformation

CHUNK = 256  # images that are read and differentiated together


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images that are read when they are used: `labels` i64 [n], and `read`, which gives the images u8 [m, s, s, 3] of
    rows i64 [m]."""

    labels: IntArray
    read: Callable[[IntArray], npt.NDArray[np.uint8]]

    @classmethod
    def of_set(cls, made: ImageSet) -> Labelled:
        """Of a set; grids are decoded."""
        whole = multiformation.decoded(made)
        return cls(whole.labels, whole.images.__getitem__)

    @classmethod
    def of_table(cls, table: ImageTable) -> Labelled:
        """Of a split."""
        return cls(table.labels, partial(images.read_rows, table))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of a network, which is put in evaluation mode, for images that are normalised by mean and deviation."""

    network: nn.Module
    mean: Colour
    std: Colour
    device: torch.device

    def of(self, among: Labelled, rows: IntArray) -> Vector:
        """The gradient for some rows i64 [m], summed over chunks."""
        network = self.network.to(self.device).eval()

        def parts() -> Iterator[torch.Tensor]:
            for first in range(0, len(rows), CHUNK):
                some = rows[first : first + CHUNK]
                whole = iter([(among.read(some), among.labels[some])])
                for inputs, labels in teacher.plain_batches(whole, self.mean, self.std, CHUNK, self.device):
                    yield cross_entropy(network(inputs), labels) * (len(labels) / len(rows))

        return Surface(list(network.parameters()), parts).gradient()

    def cosines(self, among: Labelled, sizes: Sequence[int], draws: int, seed: int) -> dict[int, float]:
        """The mean cosine of `draws` random batches by their size. Sizes above that of the set are left out. Batches of
        a draw are the first images of one random order, so that a larger one contains the smaller ones."""
        whole = self.of(among, np.arange(len(among)))
        possible = [size for size in sizes if size <= len(among)]
        found: dict[int, list[float]] = {size: [] for size in possible}
        generator = torch.Generator().manual_seed(seed)
        for _ in range(draws):
            order = torch.randperm(len(among), generator=generator).numpy()
            for size in possible:
                found[size].append(cosine(self.of(among, np.sort(order[:size])), whole))
        return {size: float(np.mean(values)) for size, values in found.items()}
