"""Latents of the real images, class by class, in as few passes over the table as memory allows.

k-means needs all latents of a class together, 64 kB an image at 512 pixels. Those of a class are given away as soon as
its last image was read. So a table in the order of its classes takes one pass with one class in memory; of a mixed one
each pass takes as many classes as fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from dcpipe.synthesis.base import SynthesisContext
from dcpipe.synthesis.diffusion.prototypes import Latents
from dcpipe.types import IntArray

MOST_BYTES = 2**31  # of latents in memory; a larger class is in memory alone
Encode = Callable[[npt.NDArray[np.uint8]], Latents]


def by_class(
    context: SynthesisContext, wanted: list[int], encode: Encode, batch_size: int, latent_bytes: int
) -> Iterator[tuple[int, Latents]]:
    """(label, latents f32 [n, c, h, w] of all images of the class in the order of the table) of each wanted class.

    `encode` gets at most `batch_size` images u8 [m, s, s, 3]: of one class and one part of the table, so which images
    are encoded together does not depend on which classes are wanted. `latent_bytes`: of one image.
    """
    counts = np.bincount(context.labels, minlength=max(wanted, default=0) + 1)
    for group in passes(context.labels, wanted, max(1, MOST_BYTES // latent_bytes)):
        waiting = set(group)
        latents: dict[int, Latents] = {}
        filled: dict[int, int] = {}
        for images, labels in context.real():
            for label in sorted(waiting & set(labels.tolist())):
                rows = np.flatnonzero(labels == label)
                for first in range(0, len(rows), batch_size):
                    some = encode(images[rows[first : first + batch_size]])
                    held = latents.setdefault(label, np.empty((counts[label], *some.shape[1:]), dtype=np.float32))
                    done = filled.get(label, 0)
                    held[done : done + len(some)] = some
                    filled[label] = done + len(some)
                if filled[label] == counts[label]:
                    waiting.remove(label)
                    yield label, latents.pop(label)
            if not waiting:
                break


def passes(labels: IntArray, wanted: list[int], most: int) -> list[list[int]]:
    """The classes of each pass over a table with these labels i64 [n], so that at no row of it the classes that have
    begun and not ended have more than `most` images; a larger class is alone at all of its rows."""
    rows = {label: np.flatnonzero(labels == label) for label in wanted}
    left = sorted((label for label in wanted if len(rows[label])), key=lambda label: int(rows[label][0]))
    groups = []
    while left:
        group: list[int] = []
        later: list[int] = []
        for label in left:
            beside = sum(len(rows[other]) for other in group if rows[other][-1] >= rows[label][0])
            (group if beside == 0 or beside + len(rows[label]) <= most else later).append(label)
        groups.append(group)
        left = later
    return groups
