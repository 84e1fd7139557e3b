"""The pool of labels that pruning keeps, and what epochs draw from it: LPLD's part that `prune` and `prune_topk` share.

Idea: a label pool need not be as long as the training. Views are independent draws, so any K' of the K views are a
random part of them; keep the first ones and draw from them with replacement in every epoch (Xiao and He, "Are
large-scale soft labels necessary for large-scale dataset distillation?", NeurIPS 2024). Two granularities, theirs:

* `epoch`: whole views; all images of an epoch show the same drawn view.
* `batch`, the paper's improved label pool: the images of every view are shuffled and cut into batches; of the list of
  (view, batch), view after view, the first ones are kept, and every epoch draws ceil(n / batch size) of them. Epochs
  then mix views. A last, short batch is dropped, as in the paper's code.

Where we differ, and why: what is stored is labels alone, in rows sorted by image and view, not files of batches with
crops and permutations; those follow from the seed, cost no bytes and leave students free in their batch size. The
drawn batches of an epoch are cut to n items, so that an epoch is as long for every codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from dcpipe.random import Draw, Stream, permutation, philox, uniform
from dcpipe.types import DataError, IntArray, LabelShape, require

Granularity = Literal["epoch", "batch"]


@dataclass(frozen=True)
class Pool:
    """`kept` views, or batches, of the labels."""

    granularity: Granularity
    kept: int
    batch_size: int
    seed: int

    def labels(self, shape: LabelShape) -> int:
        """How many labels are kept."""
        return self.kept * _unit(self.granularity, self.batch_size, shape)

    def entries(self, shape: LabelShape) -> IntArray:
        """Where the label of (image, view) lies among those kept, or -1: i64 [n, views touched]."""
        return _entries(self, shape)

    def find(self, name: str, rows: IntArray, stored: IntArray, shape: LabelShape) -> IntArray:
        """Where the labels of the pairs (`rows[j]`, `stored[j]`) lie; raises `DataError` for one that was dropped."""
        held = self.holds(rows, stored, shape)
        if not held.all():
            first = int(np.argmin(held))
            raise DataError(
                f"codec {name!r}: the label of view {stored[first]} of image {rows[first]} was dropped; "
                "ask for pairs that `replay` or `holds` names"
            )
        found: IntArray = _entries(self, shape)[rows, stored]
        return found

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """Which pairs were kept."""
        entries = _entries(self, shape)
        held: npt.NDArray[np.bool_] = stored < entries.shape[1]
        held[held] = entries[rows[held], stored[held]] >= 0
        return held

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """Kept views, or batches, drawn with replacement: n items, a function of (seed, epoch)."""
        n = shape.images
        if self.granularity == "epoch":
            return np.arange(n), np.full(n, self._chosen(epoch, 1)[0], dtype=np.int64)
        view, batch = np.divmod(self._chosen(epoch, -(-n // self.batch_size)), n // self.batch_size)
        rows = [self._batch(shape, int(v), int(b)) for v, b in zip(view, batch, strict=True)]
        return np.concatenate(rows)[:n], np.repeat(view, self.batch_size)[:n]

    def _chosen(self, epoch: int, count: int) -> IntArray:
        """`count` of the kept units."""
        u = uniform(philox(self.seed, epoch, Draw.POOL, np.arange(count))[..., 0])
        return np.minimum((u * self.kept).astype(np.int64), self.kept - 1)

    def _batch(self, shape: LabelShape, view: int, batch: int) -> IntArray:
        """Rows of one batch of a view."""
        return _order(self.seed, view, shape.images)[batch * self.batch_size : (batch + 1) * self.batch_size]


def units(name: str, granularity: Granularity, batch_size: int, shape: LabelShape) -> tuple[int, int]:
    """Labels of one view, or batch, and how many of those there are; raises `DataError` for a wrong option."""
    require(
        granularity == "epoch" or 1 <= batch_size <= shape.images,
        f"codec {name!r}: batch_size is {batch_size} for {shape.images} images; give one in 1..{shape.images}",
    )
    each = _unit(granularity, batch_size, shape)
    return each, shape.views * (shape.images // each)


def _unit(granularity: Granularity, batch_size: int, shape: LabelShape) -> int:
    return shape.images if granularity == "epoch" else batch_size


@lru_cache(maxsize=64)
def _order(seed: int, view: int, images: int) -> IntArray:
    order = permutation(seed, Stream.POOL_VIEW + view, images)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=4)
def _entries(pool: Pool, shape: LabelShape) -> IntArray:
    if pool.granularity == "epoch":
        held = np.ones((shape.images, pool.kept), dtype=np.bool_)
    else:
        each = shape.images // pool.batch_size
        full, rest = divmod(pool.kept, each)
        counts = [each] * full + [rest] * (rest > 0)
        held = np.zeros((shape.images, len(counts)), dtype=np.bool_)
        for view, count in enumerate(counts):
            held[_order(pool.seed, view, shape.images)[: count * pool.batch_size], view] = True
    entries = np.where(held, held.ravel().cumsum().reshape(held.shape) - 1, -1).astype(np.int64)
    entries.flags.writeable = False
    return entries
