"""`prune`: keep a random part of the fp16 labels and reuse it, LPLD's codec.

Idea: a label pool need not be as long as the training. Views are independent draws, so any K' of the K views are a
random part of them; keep the first ones and draw from them with replacement in every epoch (Xiao and He, "Are
large-scale soft labels necessary for large-scale dataset distillation?", NeurIPS 2024). Two granularities, theirs:

* `epoch`: whole views. m = budget // (2 n C) are kept; all images of an epoch show the same drawn view.
* `batch`, the paper's improved label pool: the images of every view are shuffled and cut into batches; of the list of
  (view, batch), view after view, the first p that fit are kept, and every epoch draws ceil(n / batch size) of them.
  Epochs then mix views, and the budget is met to a batch. A last, short batch is dropped, as in the paper's code.

Where we differ, and why: what is stored is labels alone, in rows sorted by image and view, not files of batches with
crops and permutations; those follow from the seed, cost no bytes and leave students free in their batch size. The
drawn batches of an epoch are cut to n items, so that an epoch is as long for every codec.

Cost: nothing to encode, one gather to decode. Bytes: 2 C a kept label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self, final

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.compression.seam import Array, Codec, Specs, require_budget
from dcpipe.types import DataError, IntArray, LabelShape, require
from dcpipe.views import Views, permutation, philox, take, uniform

Granularity = Literal["epoch", "batch"]
_GRANULARITIES = ("epoch", "batch")
_DRAW = 16  # counter of the generator that no view uses: which view or batch an epoch shows


@final
@dataclass(frozen=True)
class Prune(Codec):
    """`kept` views, or batches, of the labels. Arrays: `logits` fp16 [kept labels, c], by image, then by view."""

    granularity: Granularity
    kept: int
    batch_size: int
    seed: int

    @classmethod
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        granularity: Granularity = "epoch",
        batch_size: int = 64,
        seed: int = 0,
    ) -> Self:
        """As many views, or batches, as fit; raises `DataError` naming the size of one when that does not."""
        require(
            granularity in _GRANULARITIES,
            f"codec 'prune': granularity is {granularity!r}; choose one of {', '.join(_GRANULARITIES)}",
        )
        require(
            granularity == "epoch" or 1 <= batch_size <= shape.images,
            f"codec 'prune': batch_size is {batch_size} for {shape.images} images; give one in 1..{shape.images}",
        )
        unit = 2 * shape.classes * (shape.images if granularity == "epoch" else batch_size)
        remedy = "choose a smaller ratio" + (" or granularity batch" if granularity == "epoch" else "")
        require_budget("prune", budget, unit, shape, remedy)
        most = shape.views * (1 if granularity == "epoch" else shape.images // batch_size)
        return cls(granularity, min(budget // unit, most), batch_size, seed)

    def specs(self, shape: LabelShape) -> Specs:
        labels = self.kept * (shape.images if self.granularity == "epoch" else self.batch_size)
        return {"logits": ((labels, shape.classes), "float16")}

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        held = torch.from_numpy(_entries(self, shape)[rows] >= 0).to(logits.device)
        return {"logits": logits[:, : held.shape[1]][held].to(torch.float16).cpu().numpy()}

    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        """Raises `DataError` for a label that was dropped."""
        held = self.holds(rows, stored, shape)
        if not held.all():
            first = int(np.argmin(held))
            raise DataError(
                f"codec 'prune': the label of view {stored[first]} of image {rows[first]} was dropped; "
                "ask for pairs that `replay` or `holds` names"
            )
        return take(arrays["logits"], _entries(self, shape)[rows, stored]).to(torch.float32)

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
        rows = [_batch(self, shape, int(v), int(b)) for v, b in zip(view, batch, strict=True)]
        return np.concatenate(rows)[:n], np.repeat(view, self.batch_size)[:n]

    def _chosen(self, epoch: int, count: int) -> IntArray:
        """`count` of the kept units."""
        u = uniform(philox(self.seed, epoch, _DRAW, np.arange(count))[..., 0])
        return np.minimum((u * self.kept).astype(np.int64), self.kept - 1)


@lru_cache(maxsize=64)
def _order(seed: int, view: int, images: int) -> IntArray:
    order = permutation(seed, view, images)
    order.flags.writeable = False
    return order


def _batch(codec: Prune, shape: LabelShape, view: int, batch: int) -> IntArray:
    """Rows of one batch of a view."""
    return _order(codec.seed, view, shape.images)[batch * codec.batch_size : (batch + 1) * codec.batch_size]


@lru_cache(maxsize=4)
def _entries(codec: Prune, shape: LabelShape) -> IntArray:
    """Where the label of (image, view) lies in `logits`, or -1: i64 [n, views touched]."""
    if codec.granularity == "epoch":
        held = np.ones((shape.images, codec.kept), dtype=np.bool_)
    else:
        each = shape.images // codec.batch_size
        full, rest = divmod(codec.kept, each)
        counts = [each] * full + [rest] * (rest > 0)
        held = np.zeros((shape.images, len(counts)), dtype=np.bool_)
        for view, count in enumerate(counts):
            held[_order(codec.seed, view, shape.images)[: count * codec.batch_size], view] = True
    entries = np.where(held, held.ravel().cumsum().reshape(held.shape) - 1, -1).astype(np.int64)
    entries.flags.writeable = False
    return entries
