"""`prune`: keeps a random part of the fp16 labels and reuses it; LPLD's codec.

Idea and method: a pool of whole views or of batches that epochs draw from, see `pool`. The budget determines their
number: budget // (2 n C) views, or budget // (2 B C) batches of B with granularity `batch`, which comes closest to the
budget.

Cost: encoding is free, and decoding is one gather. Bytes: 2 C per kept label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.compression.pool import Granularity, Pool, units
from dcpipe.config.options import validated
from dcpipe.config.values import Count, Seed
from dcpipe.types import IntArray, LabelShape
from dcpipe.views import Views


@final
@dataclass(frozen=True)
class Prune(Codec):
    """The first `kept` views or batches of the labels. Arrays: `logits` fp16 [kept labels, c], by image, then by
    view."""

    granularity: Granularity
    kept: int
    batch_size: int
    seed: int

    @classmethod
    @validated("codec 'prune'")
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        granularity: Granularity = "epoch",
        batch_size: Count = 64,
        seed: Seed = 0,
    ) -> Self:
        """As many views or batches as fit. Raises `DataError` with the size of one if that does not fit."""
        each, most = units("prune", granularity, batch_size, shape)
        size = 2 * shape.classes * each
        remedy = "choose a smaller ratio" + (" or granularity batch" if granularity == "epoch" else "")
        require_budget("prune", budget, size, shape, remedy)
        return cls(granularity, min(budget // size, most), batch_size, seed)

    @property
    def pool(self) -> Pool:
        """The labels that are kept, and what epochs draw."""
        return Pool(self.granularity, self.kept, self.batch_size, self.seed)

    def specs(self, shape: LabelShape) -> Specs:
        return {"logits": ((self.pool.labels(shape), shape.classes), "float16")}

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        held = torch.from_numpy(self.pool.entries(shape)[rows] >= 0).to(logits.device)
        return {"logits": logits[:, : held.shape[1]][held].to(torch.float16).cpu().numpy()}

    def locate(self, rows: IntArray, stored: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Positions of the labels among those that are kept. Raises `DataError` for a label that was dropped."""
        return {"labels": self.pool.find("prune", rows, stored, shape)}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        return arrays["logits"].index_select(0, located["labels"]).to(torch.float32)

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """Which pairs are kept."""
        return self.pool.holds(rows, stored, shape)

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """n items from views or batches that are drawn with replacement; a function of (seed, epoch)."""
        return self.pool.replay(epoch, shape)
