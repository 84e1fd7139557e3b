"""`topk`: the k largest logits of every view; FKD's label quantization and LPQLD's MR-k and MRS.

Idea: most of the mass of a label is in a few classes; keep those and define the rest by a rule. FKD (Shen and Xing, "A
fast knowledge distillation framework for visual recognition", ECCV 2022) has four rules for probabilities p; LPQLD
(arXiv 2604.18135, TPAMI 2026, Sec. III-C) uses the last of them, as MR-k, on logits. Labels here are logits z, which
students soften at a temperature T of their choice, so each rule decodes to logits. With q = softmax(decoded / T):

* `hard` (FKD): q is one-hot at the largest class, at every T.
* `smoothing` (FKD): the next rule with k = 1.
* `marginal_smoothing`: stored classes keep p, and the others share the remaining mass equally. This is exactly FKD's
  rule at T = 1: the others get one common logit l = log mean exp(z) over them, so that (C - k) exp(l) is their mass. At
  T > 1 stored classes keep their ratios, but the others together get too much mass, because mean exp(z)^(1/T) >= mean
  exp(z / T). Option `temperature` makes the rule exact where students train: l = t log mean exp(z / t) is exact at T =
  t.
* `marginal_renorm`: q is softmax(z / T) over the stored classes and 0 elsewhere, i.e. p renormalised. This is FKD's
  rule at T = 1 and LPQLD's at any T. The others decode to -inf, which neither softmax nor KL(q || student) turns into a
  NaN. If k is small and T is large, q approaches a uniform distribution over k classes; then `marginal_smoothing` is
  much closer to p.
* `minimum` (LPQLD's MRS, in its code only): the others get the smallest logit of the label, so q is softmax(z / T) with
  these logits at every T. Unlike MR-k, no class has probability 0, so KL(p || q) is finite. If k is small, the others
  get too little of the mass; `marginal_smoothing` gives them what they have.

Where we differ, and why:
* FKD stores probabilities and derives the mass of the rest as 1 - sum, which in fp16 rounds to zero or less if the
  teacher is confident. Softmax does not depend on a shift, so we store z - l and the others decode to 0; l takes no
  bytes.
* LPQLD computes the smallest logit of every label to store it. For the same reason it takes no bytes here: we store z -
  min z, and the others decode to 0.
* FKD and LPQLD have one k for all labels. Here k follows from the budget, and the first labels have one more entry.
* `bits: 8` stores u8 codes with one fp16 step per label, of z - l, of z - min z, or of z minus the smallest stored z;
  none is below 0.
* FKD stores classes as floats (exact to 2048 in fp16), LPQLD as int16; here they are u8 up to 256 classes, else u16.

Cost: one sort per label, O(C log C). Bytes: 3 or 4 per entry with 16 bits; 2 or 3 per entry and 2 per label with 8
bits. A budget is used up to one entry. `hard` and `smoothing` have a fixed size of 1-2 and 3-4 bytes per label for any
budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, final

import numpy as np
import torch

from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.compression.entries import Entries, check_classes, class_bytes, class_dtype, largest
from dcpipe.config.options import validated
from dcpipe.config.values import Positive
from dcpipe.types import IntArray, LabelShape, require
from dcpipe.views import Views, send

Kind = Literal["hard", "smoothing", "marginal_smoothing", "marginal_renorm", "minimum"]
Bits = Literal[16, 8]
_SMOOTHED = ("smoothing", "marginal_smoothing")
_FILLED = (*_SMOOTHED, "minimum")  # classes that are not stored share a logit, which is subtracted
_MARGINAL = ("marginal_smoothing", "marginal_renorm", "minimum")


@dataclass(frozen=True)
class Table:
    """How labels, numbered in one order, are stored. Arrays: `classes` u8 or u16 and `values` fp16 or u8, both [labels,
    k]; the same with suffix `_more` for additional entries; and `steps` fp16 [labels] for u8."""

    kind: Kind
    bits: Bits
    temperature: float
    classes: int
    entries: Entries

    def specs(self) -> Specs:
        """Shapes and dtypes of the arrays."""
        specs = self.entries.specs("classes", class_dtype(self.classes))
        if self.kind == "hard":
            return specs
        specs |= self.entries.specs("values", "float16" if self.bits == 16 else "uint8")
        return specs | ({"steps": ((self.entries.labels,), "float16")} if self.bits == 8 else {})

    def encode(self, logits: torch.Tensor, index: IntArray) -> dict[str, Array]:
        """Arrays of the labels `index`, in ascending order, with logits f32 [m, c]."""
        classes = self.entries.trim(largest(logits, self.entries.width), send(index, logits.device))
        arrays = self.entries.split("classes", classes, index, class_dtype(self.classes))
        if self.kind == "hard":
            return arrays
        values = logits.gather(1, classes)
        if self.kind in _FILLED:
            values = values - self._rest(logits, classes, index)[:, None]
        if self.bits == 16:
            return arrays | self.entries.split("values", values, index, "float16")
        if self.kind == "marginal_renorm":
            values = values - values.amin(dim=1, keepdim=True)
        steps = (values.amax(dim=1) / 255).to(torch.float16)
        wide = steps.to(torch.float32)[:, None]
        # A step that rounds to 0 belongs to values that differ by less than fp16 can resolve.
        codes = (values / torch.where(wide > 0, wide, 1)).round().clamp(0, 255)
        return arrays | self.entries.split("values", codes, index, "uint8") | {"steps": steps.cpu().numpy()}

    def _rest(self, logits: torch.Tensor, classes: torch.Tensor, index: IntArray) -> torch.Tensor:
        """The common logit of the classes that are not stored, f32 [m]; the smallest stored one if all are stored."""
        if self.kind == "minimum":
            return logits.amin(dim=1)
        counts = self.classes - self.entries.each - send(self.entries.longer(index), logits.device).long()
        others = logits.scatter(1, classes, -torch.inf) / self.temperature
        mean = torch.logsumexp(others, dim=1) - counts.clamp_min(1).log()
        return torch.where(counts > 0, self.temperature * mean, logits.gather(1, classes).amin(dim=1))

    def decode(self, arrays: Mapping[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        """Logits f32 [m, c] of the labels `index` i64 [m], on the arrays' device."""
        classes = self.entries.gather("classes", arrays, index, torch.int64)
        rest = 0.0 if self.kind in _FILLED else -torch.inf
        logits = torch.full((len(index), self.classes), rest, device=classes.device)
        if self.kind == "hard":
            return logits.scatter_(1, classes, 0.0)
        values = self.entries.gather("values", arrays, index, torch.float32)
        if self.bits == 8:
            values = values * arrays["steps"].index_select(0, index).to(torch.float32)[:, None]
        return logits.scatter_(1, classes, values)


def table(
    name: str, remedy: str, shape: LabelShape, labels: int, budget: int, kind: Kind, bits: Bits, temperature: float
) -> Table:
    """The table with the most entries of `labels` labels in a budget. Raises `DataError` with the smallest size."""
    check_classes(name, shape)
    entry = class_bytes(shape.classes) + (0 if kind == "hard" else bits // 8)
    steps = 2 * labels if bits == 8 else 0
    require_budget(name, budget, labels * entry + steps, shape, remedy)
    if kind in _MARGINAL:
        # If only one class is left out, its share is what remains, and its logit the smallest: no further entry needed.
        most = max(1, shape.classes - (kind != "marginal_renorm"))
        return Table(kind, bits, temperature, shape.classes, Entries.fitting(labels, budget - steps, entry, most))
    return Table(kind, bits, temperature, shape.classes, Entries(labels, 1, 0))


def _together(*, kind: Kind, bits: Bits, temperature: float) -> None:
    require(
        bits != 8 or kind in _MARGINAL,
        f"bits is 8, but kind {kind} stores at most one value per view, so a step would save nothing; leave bits at 16",
    )
    require(
        temperature == 1 or kind in _SMOOTHED,
        f"temperature is {temperature}, but kind {kind} does not depend on it; leave it at 1",
    )


@final
@dataclass(frozen=True)
class Topk(Codec):
    """`per_view` entries of every view, and one more for the first `extra` views. Arrays: those of `Table`, whose
    labels are the views, image by image."""

    kind: Kind
    per_view: int
    extra: int
    bits: Bits
    temperature: float

    @classmethod
    @validated("codec 'topk'", _together)
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        kind: Kind = "marginal_renorm",
        bits: Bits = 16,
        temperature: Positive = 1.0,
    ) -> Self:
        """As many entries as fit. Raises `DataError` with the size of one per view if that does not fit."""
        remedy = "choose a smaller ratio or codec 'prune_topk'"
        labels = shape.images * shape.views
        entries = table("topk", remedy, shape, labels, budget, kind, bits, temperature).entries
        return cls(kind, entries.each, entries.extra, bits, float(temperature))

    def specs(self, shape: LabelShape) -> Specs:
        return self._table(shape).specs()

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        index = (rows[:, None] * shape.views + np.arange(shape.views)).ravel()
        return self._table(shape).encode(logits.flatten(0, 1), index)

    def locate(self, rows: IntArray, stored: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """The numbers of the labels."""
        return {"labels": rows * shape.views + stored}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        return self._table(shape).decode(arrays, located["labels"])

    def _table(self, shape: LabelShape) -> Table:
        entries = Entries(shape.images * shape.views, self.per_view, self.extra)
        return Table(self.kind, self.bits, self.temperature, shape.classes, entries)
