"""`prune_topk`: keeps a share of the views and the k largest logits of each of their labels; LPQLD's codec.

Idea: pruning and sparse labels save bytes in different dimensions, so both together compress more than either (LPQLD,
arXiv 2604.18135, TPAMI 2026): LPLD's pool of whole views or batches, see `pool`, with MR-k on each kept label, see
`topk` and its `marginal_renorm`, LPQLD's label quantization (Sec. III-C). `prune: 10` keeps one view in ten, the
paper's ratio for all its ImageNet rows; k follows from the budget. Its other parts do not belong to the codec:
temperatures that decrease during training (DKR) and a separate temperature of the student (CA) work with any pack that
stores logits. `kind: minimum` is its MRS instead, whose divergence is finite.

Where we differ, and why: the budget is used up to one entry, because the first kept labels have one more. LPQLD draws
the batches of an epoch without repeats, LPLD and we draw with replacement. Whole views are drawn once per epoch in all
of them. They are the default here, because mixed labels need the label of any partner in the same view. No crops are
stored, which are 50-65 of LPQLD's 100 bytes per label at MR-10.

Cost: one sort per kept label, O(C log C). Bytes: as in `topk`, but only for kept labels: 3 or 4 per entry with 16 bits;
2 or 3 per entry and 2 per label with 8 bits. A budget that exceeds all classes of the kept labels is not used up: with
16 bits and up to 256 classes, the arrays take at most 1.5 / `prune` of the labels in fp16. So the default `prune: 10`
uses about 77 % of a budget of 5x and 16 % of one of 1.05x. Lower `prune` in this case; the stage `compression` prints
how many bytes are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.compression.base import Array, Codec, Specs
from dcpipe.compression.entries import Entries
from dcpipe.compression.pool import Granularity, Pool, units
from dcpipe.compression.topk import Bits, Table, table
from dcpipe.config.options import validated
from dcpipe.config.values import AtLeastOne, Count, Seed
from dcpipe.types import IntArray, LabelShape
from dcpipe.views import Views

Fill = Literal["marginal_renorm", "minimum"]


@final
@dataclass(frozen=True)
class PruneTopk(Codec):
    """`per_label` entries of every label of the first `kept` views or batches, and one more for the first `extra`
    labels. Arrays: those of `topk.Table`, whose labels are the kept ones, by image, then by view."""

    granularity: Granularity
    kept: int
    batch_size: int
    seed: int
    per_label: int
    extra: int
    bits: Bits
    kind: Fill = "marginal_renorm"

    @classmethod
    @validated("codec 'prune_topk'")
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        prune: AtLeastOne = 10,
        granularity: Granularity = "epoch",
        batch_size: Count = 64,
        seed: Seed = 0,
        bits: Bits = 16,
        kind: Fill = "marginal_renorm",
    ) -> Self:
        """One in `prune` views or batches, but at least one, and as many entries of their labels as fit.

        Raises `DataError` with the size of one entry per label if that does not fit.
        """
        each, most = units("prune_topk", granularity, batch_size, shape)
        kept = max(1, int(most / prune))
        remedy = "choose a smaller ratio or a larger prune"
        entries = table("prune_topk", remedy, shape, kept * each, budget, kind, bits, 1.0).entries
        return cls(granularity, kept, batch_size, seed, entries.each, entries.extra, bits, kind)

    @property
    def pool(self) -> Pool:
        """The labels that are kept, and what epochs draw."""
        return Pool(self.granularity, self.kept, self.batch_size, self.seed)

    def specs(self, shape: LabelShape) -> Specs:
        return self._table(shape).specs()

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        found = self.pool.entries(shape)[rows]
        held = torch.from_numpy(found >= 0).to(logits.device)
        return self._table(shape).encode(logits[:, : held.shape[1]][held], found[found >= 0])

    def locate(self, rows: IntArray, stored: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Positions of the labels among those that are kept. Raises `DataError` for a label that was dropped."""
        return {"labels": self.pool.find("prune_topk", rows, stored, shape)}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        return self._table(shape).decode(arrays, located["labels"])

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """Which pairs are kept."""
        return self.pool.holds(rows, stored, shape)

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """n items from views or batches that are drawn with replacement; a function of (seed, epoch)."""
        return self.pool.replay(epoch, shape)

    def _table(self, shape: LabelShape) -> Table:
        entries = Entries(self.pool.labels(shape), self.per_label, self.extra)
        return Table(self.kind, self.bits, 1.0, shape.classes, entries)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without `kind` if it is the default, so that such packs are byte-identical to older ones."""
        return {name: value for name, value in super().settings.items() if (name, value) != ("kind", "marginal_renorm")}
