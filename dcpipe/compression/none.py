"""`none`: the unchanged fp16 logits.

The reference for every ratio: 2 n K C bytes. Logits, not probabilities, are stored, so students may choose their
temperature. Decoding is one gather, and labels are reproduced exactly.
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
class NoCodec(Codec):
    """No compression. Arrays: `logits` fp16 [n, K, c]."""

    @classmethod
    def plan(cls, shape: LabelShape, budget: int) -> Self:
        """Needs the size of the reference; raises `DataError` with this size if the budget is smaller."""
        require_budget("none", budget, shape.reference_bytes, shape, "choose another codec or a larger budget")
        return cls()

    def specs(self, shape: LabelShape) -> Specs:
        return {"logits": ((shape.images, shape.views, shape.classes), "float16")}

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Round to fp16, which does not change logits that were fp16."""
        return {"logits": logits.to(torch.float16).cpu().numpy()}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        return arrays["logits"][located["rows"], located["stored"]].to(torch.float32)
