"""`mean_label`: one label per image, the fp16 mean of its logits over the views.

The baseline without any dependence on the view, as in GIFT, which trains with one soft label per image. Its ratio to
fp16 is K. So a ratio alone does not show whether the labels of a codec still depend on the view; compare the codec with
`mean_label` by bytes per image.

Bytes: 2 n C. A larger budget is not used up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch

from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.types import IntArray, LabelShape
from dcpipe.views import Views


@final
@dataclass(frozen=True)
class MeanLabel(Codec):
    """The mean label of each image. Arrays: `logits` fp16 [n, c]."""

    @classmethod
    def plan(cls, shape: LabelShape, budget: int) -> Self:
        """Raises `DataError` with the size of the arrays if the budget is smaller."""
        smallest = 2 * shape.images * shape.classes
        require_budget("mean_label", budget, smallest, shape, "choose a smaller ratio or codec 'field'")
        return cls()

    def specs(self, shape: LabelShape) -> Specs:
        return {"logits": ((shape.images, shape.classes), "float16")}

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        return {"logits": logits.to(torch.float64).mean(1).to(torch.float16).cpu().numpy()}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        """The mean label, also for views beyond K."""
        return arrays["logits"][located["rows"]].to(torch.float32)
