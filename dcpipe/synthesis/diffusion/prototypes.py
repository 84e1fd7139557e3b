"""Prototypes of a class: the centres of k-means among the latents of its images, or the latents next to them.

`all`: Lloyd's algorithm on all latents, from one start of k-means++. `minibatch`: the way of D4M's official code,
`MiniBatchKMeans.partial_fit` of scikit-learn on groups of `expand` times as many latents as there are prototypes, in
the order of the table. A last incomplete group is left out, as there; a class with less than one group is one group,
where the official code fails.

The order is fixed: prototypes of more images come first, and of equally many the one closer to the mean of the class.
All is computed in one thread, because the sums of several threads depend on which of them ends first.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import training
from dcpipe.random import Draw, philox
from dcpipe.types import IntArray

Latents = npt.NDArray[np.float32]
Clusters = Literal["all", "minibatch"]
Place = Literal["centre", "nearest"]


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Latents f32 [k, c, h, w] of a class, and the number of its images that are closest to each, i64 [k]."""

    latents: Latents
    sizes: IntArray


@dataclass(frozen=True)
class Recipe:
    """What prototypes are a function of, besides the real images: a digest of the encoder, the side in pixels at which
    images are encoded, in which precision and how many at a time; how clusters are made and what stands for one; and
    the seed."""

    encoder: str
    side: int
    half: bool
    batch_size: int
    clusters: Clusters
    expand: int
    place: Place
    seed: int

    def path(self, folder: Path, label: int, count: int) -> Path:
        """The file of the prototypes of a class; its name covers the recipe."""
        digest = hashlib.sha256(repr((self, count)).encode()).hexdigest()[:16]
        return folder / f"prototypes-{digest}-{label:05d}.pt"

    def load(self, folder: Path, label: int, count: int) -> Prototypes | None:
        """What `save` saved; None if there is nothing."""
        path = self.path(folder, label, count)
        if not path.exists():
            return None
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return Prototypes(saved["latents"].numpy(), saved["sizes"].numpy())

    def save(self, folder: Path, label: int, found: Prototypes) -> None:
        """Save the prototypes of a class."""
        content = {"latents": torch.from_numpy(found.latents), "sizes": torch.from_numpy(found.sizes)}
        training.save_checkpoint(self.path(folder, label, len(found.sizes)), content)

    def make(self, latents: Latents, label: int, count: int) -> Prototypes:
        """`count` prototypes of a class whose images have these latents, f32 [n, c, h, w] with n >= count."""
        flat = np.ascontiguousarray(latents.reshape(len(latents), -1))
        # scikit-learn takes 32 bits.
        seed = int(philox(self.seed, label, Draw.PROTOTYPES, 0)[..., 0] >> np.uint64(32))
        centres, nearest = _clustered(flat, count, seed, self.clusters, self.expand)
        sizes = np.bincount(nearest, minlength=count).astype(np.int64)
        off = np.linalg.norm(centres.astype(np.float64) - flat.mean(axis=0, dtype=np.float64), axis=1)
        order = np.lexsort((off, -sizes))
        if self.place == "nearest":
            centres = np.stack([flat[np.linalg.norm(flat - centre, axis=1).argmin()] for centre in centres])
        return Prototypes(centres[order].reshape(count, *latents.shape[1:]).astype(np.float32), sizes[order])


def _clustered(flat: Latents, count: int, seed: int, clusters: Clusters, expand: int) -> tuple[Latents, IntArray]:
    """Centres [k, d], and the number of the closest one for each row, [n]."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Fewer different images than prototypes: some prototypes are equal, and images of them get different noise.
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        if clusters == "all":
            found = KMeans(count, n_init=1, random_state=seed).fit(flat)
            return found.cluster_centers_, found.labels_
        size = min(expand * count, len(flat))
        running = MiniBatchKMeans(count, batch_size=size, n_init="auto", random_state=seed)
        for first in range(0, len(flat) - size + 1, size):
            running.partial_fit(flat[first : first + size])
        return running.cluster_centers_, running.predict(flat)
