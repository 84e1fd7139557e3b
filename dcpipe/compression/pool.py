"""The pool of labels that remain after pruning, and what epochs draw from it: the part of LPLD that `prune` and
`prune_topk` share.

Idea: a label pool need not be as long as the training. Views are independent random draws, so any K' of the K views are
a random subset. LPLD keeps the first ones and draws from them with replacement in every epoch (Xiao and He, "Are
large-scale soft labels necessary for large-scale dataset distillation?", NeurIPS 2024). It has two granularities:

* `epoch`: whole views; all images of an epoch use the same view, which is drawn.
* `batch`, the improved label pool of the paper: the images of every view are shuffled and divided into batches; of the
  list of (view, batch), view after view, the first ones are kept, and every epoch draws ceil(n / batch size) of them.
  Then an epoch contains several views. An incomplete last batch is dropped, as in the paper's code.

Where we differ, and why: only labels are stored, in rows sorted by image and view, not files of batches with crops and
permutations. Crops and permutations follow from the seed, so they take no bytes, and students can use any batch size.
The batches of an epoch are truncated to n items, so that an epoch has the same length for every codec.
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
    """The first `kept` views or batches of the labels."""

    granularity: Granularity
    kept: int
    batch_size: int
    seed: int

    def labels(self, shape: LabelShape) -> int:
        """The number of labels that are kept."""
        return self.kept * _unit(self.granularity, self.batch_size, shape)

    def entries(self, shape: LabelShape) -> IntArray:
        """Position of the label of (image, view) among those that are kept, or -1: i64 [n, views that occur]."""
        return _entries(self, shape)

    def find(self, name: str, rows: IntArray, stored: IntArray, shape: LabelShape) -> IntArray:
        """Positions of the labels of the pairs (`rows[j]`, `stored[j]`); raises `DataError` for a dropped one."""
        held = self.holds(rows, stored, shape)
        if not held.all():
            first = int(np.argmin(held))
            raise DataError(
                f"codec {name!r}: the label of view {stored[first]} of image {rows[first]} was dropped; "
                "request only pairs that `replay` or `holds` returns"
            )
        found: IntArray = _entries(self, shape)[rows, stored]
        return found

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """Which pairs are kept."""
        entries = _entries(self, shape)
        held: npt.NDArray[np.bool_] = stored < entries.shape[1]
        held[held] = entries[rows[held], stored[held]] >= 0
        return held

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """n items from views or batches that are drawn with replacement; a function of (seed, epoch)."""
        n = shape.images
        if self.granularity == "epoch":
            return np.arange(n), np.full(n, self._chosen(epoch, 1)[0], dtype=np.int64)
        view, batch = np.divmod(self._chosen(epoch, -(-n // self.batch_size)), n // self.batch_size)
        rows = [self._batch(shape, int(v), int(b)) for v, b in zip(view, batch, strict=True)]
        return np.concatenate(rows)[:n], np.repeat(view, self.batch_size)[:n]

    def _chosen(self, epoch: int, count: int) -> IntArray:
        """`count` random ones of the kept units."""
        u = uniform(philox(self.seed, epoch, Draw.POOL, np.arange(count))[..., 0])
        return np.minimum((u * self.kept).astype(np.int64), self.kept - 1)

    def _batch(self, shape: LabelShape, view: int, batch: int) -> IntArray:
        """Rows of one batch of a view."""
        return _order(self.seed, view, shape.images)[batch * self.batch_size : (batch + 1) * self.batch_size]


def units(name: str, granularity: Granularity, batch_size: int, shape: LabelShape) -> tuple[int, int]:
    """Number of labels in one view or batch, and number of views or batches; raises `DataError` for a wrong option."""
    require(
        granularity == "epoch" or 1 <= batch_size <= shape.images,
        f"codec {name!r}: batch_size is {batch_size} for {shape.images} images; give 1..{shape.images}",
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
