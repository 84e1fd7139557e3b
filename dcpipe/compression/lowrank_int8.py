"""`lowrank_int8`: the mean label of each image and a low-rank approximation of the changes between views, in few bits.

Idea: the mean over views is the largest part of the K x C logits of an image and has only C numbers. The rest, D = M -
1 mean^T, is approximated by r components u_i v_i^T (`components`), and everything is rounded to 8, 6, 4, 3 or 1.6 bits.
Rounding costs less than truncation: on labels of real teachers, the rounding error of a component at 4 bits is far
smaller than the contribution of the next component, and it takes a quarter of the bytes of fp16.

Method: classes are weighted by w_c, the square root of the mean over views of softmax(M / T)_c (T = `temperature`). To
second order, KL(softmax(M / T) || softmax(N / T)) is half the squared error weighted by the probabilities, so the
components are those that matter for a student trained at T. At T = 20 this is nearly plain SVD, and nowhere worse.

Bytes per image: ceil(C mean_bits / 8) + 2 for the mean; ceil(K bits / 8) + ceil(C bits / 8) + 2 per component. A budget
is used up to one component of one image. The minimum is the mean at 3 bits. The bits of the mean and of the components
are chosen by a model of the error (`error_model`). Optionally the k largest logits of every view are stored exactly, as
fp16 and class (u8 up to 256 classes, else u16), where k follows from `exact_share` of the budget.

Measured on labels of teachers (CIFAR-10 and 50 classes of Tiny-ImageNet, K = 100): at equal bytes, storing the mean is
better than using its bytes for components. A mean with 6 bits is better than one with 8 from 30x on, and one with 4
bits is equally good at 200x. For the first few components 3 bits are better than 4, then 4 bits are better than 6 and 8
until all components fit, and 1.6 bits are best if only one component with 3 bits fits. Exact logits raise top-1
agreement, but do not lower the KL at any temperature (1, 4, 20).

Tried but not used: subtracting the mean logit of each view, which no student depends on, removes 30 % of the energy of
the labels but changes the KL at T = 4 by less than 1 %, because the range of the rounded numbers stays the same. An
ideal order-0 entropy coder of the codes would save 7 to 14 % of the bytes at 10x to 200x, and zstd with one code per
byte 5 to 12 %. But then sizes would not be known in advance, and an exact budget is worth more.

Cost: one eigenproblem of size min(K, C) per image, and 10 products of K C per component. Decoded labels are float32
products of small integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch

from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.compression.components import (
    class_weights,
    component_specs,
    decode_components,
    encode_components,
    split,
    width_for,
)
from dcpipe.compression.entries import check_classes, class_bytes, class_dtype
from dcpipe.compression.error_model import CONSTANT, components_leave
from dcpipe.compression.quantise import BaseWidth, Width, coded, pack, rounded, row_bytes, unpack
from dcpipe.config.options import validated
from dcpipe.config.values import BelowOne, NotNegative
from dcpipe.types import IntArray, LabelShape
from dcpipe.views import Views


@final
@dataclass(frozen=True)
class LowrankInt8(Codec):
    """Mean and components. Arrays: `mean` u8 [n, c], `mean_scale` fp16 [n]; those of `component_specs`; and unless
    k = 0 `values` fp16 [n, K, k], `columns` u8 or u16 [n, K, k]."""

    rank: int
    extra: int
    bits: float
    per_view: int
    temperature: float
    mean_bits: int = 8

    @classmethod
    @validated("codec 'lowrank_int8'")
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        bits: Width | None = None,
        mean_bits: BaseWidth | None = None,
        exact_share: BelowOne = 0.0,
        temperature: NotNegative = 20.0,
    ) -> Self:
        """As many components as fit in addition to the mean and to `exact_share` of the bytes for exact logits.

        `temperature`: by which classes are weighted; 0 for no weighting. Raises `DataError` with the size of the mean
        alone if that does not fit.
        """
        classes = shape.classes
        check_classes("lowrank_int8", shape)
        valid = sorted(CONSTANT, reverse=True) if mean_bits is None else [mean_bits]
        sizes = {width: shape.images * (row_bytes(classes, width) + 2) for width in valid}
        require_budget("lowrank_int8", budget, sizes[valid[-1]], shape, "choose a smaller ratio")
        per_entry = shape.images * shape.views * (2 + class_bytes(classes))
        per_view = min(int(exact_share * (budget - sizes[valid[-1]])) // per_entry, classes)
        left = {width: budget - size - per_view * per_entry for width, size in sizes.items()}
        chosen = min((width for width in valid if left[width] >= 0), key=lambda w: _error(shape, left[w], bits, w))
        width = _width(shape, left[chosen], bits)
        return cls(*split(shape, left[chosen], width), width, per_view, float(temperature), chosen)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without `mean_bits` if it is 8, so that such packs are byte-identical to older ones."""
        return {name: value for name, value in super().settings.items() if (name, value) != ("mean_bits", 8)}

    def specs(self, shape: LabelShape) -> Specs:
        mean = (shape.images, row_bytes(shape.classes, self.mean_bits))
        specs: Specs = {"mean": (mean, "uint8"), "mean_scale": ((shape.images,), "float16")}
        specs |= component_specs(shape, self.rank, self.extra, self.bits)
        if self.per_view > 0:
            entries = (shape.images, shape.views, self.per_view)
            specs |= {"values": (entries, "float16"), "columns": (entries, class_dtype(shape.classes))}
        return specs

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        codes, scale = coded(logits.mean(1), self.mean_bits)
        mean = rounded(codes, scale.to(torch.float32), self.mean_bits)
        arrays = {"mean": pack(codes, self.mean_bits).cpu().numpy(), "mean_scale": scale[:, 0].cpu().numpy()}
        weights = class_weights(logits, self.temperature)
        arrays |= encode_components(logits - mean[:, None], weights, rows, self.rank, self.extra, self.bits)
        if self.per_view > 0:
            values, columns = logits.topk(self.per_view, dim=-1)
            arrays["values"] = values.to(torch.float16).cpu().numpy()
            arrays["columns"] = columns.cpu().numpy().astype(class_dtype(shape.classes))
        return arrays

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        rows, stored = located["rows"], located["stored"]
        mean = unpack(arrays["mean"][rows], self.mean_bits, shape.classes)
        logits = mean * arrays["mean_scale"][rows, None].to(torch.float32)
        if self.rank + self.extra > 0:
            logits = logits + decode_components(arrays, rows, stored, shape, self.rank, self.extra, self.bits)
        if self.per_view > 0:
            columns = arrays["columns"][rows, stored].to(torch.int64)
            logits = logits.scatter(1, columns, arrays["values"][rows, stored].to(torch.float32))
        return logits


def _width(shape: LabelShape, budget: int, bits: float | None) -> float:
    return width_for(shape, budget) if bits is None else bits


def _error(shape: LabelShape, budget: int, bits: float | None, mean_bits: int) -> float:
    """The modelled error with a mean of `mean_bits` and components that take `budget` bytes."""
    width, full = _width(shape, budget, bits), min(shape.views, shape.classes)
    rank, extra = split(shape, budget, width)
    return components_leave(1, CONSTANT[mean_bits], rank + extra / shape.images, full, width)
