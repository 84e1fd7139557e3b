"""`zipf`: only the ranking of the top classes of every view; Zipf's law determines their probabilities.

Idea: the sorted outputs of a trained network follow Zipf's law, p(r) ~ r^-s at rank r, well enough that ranks alone
define a label (Liang et al., "Efficient one pass self-distillation with Zipf's label smoothing", ECCV 2022, Sec. 3). So
only the k classes of the largest logits are stored, in order. With the classes that are not ranked tied at rank k + 1,

    logit(c) = log p(c),   p(c) = r(c)^-s / sum over all classes of r^-s.

At T = 1 students see p; at other T they see Zipf's law with exponent s / T. The paper's code has s = 1 and gives ties
the smallest of their ranks, as we do. Instead, our `exponent: fitted` stores one fp16 exponent per image: the s with
the smallest mean KL(softmax(z) || p) over its views. For this s the mean log rank under p equals that under the labels.
The former decreases with s, so s is computed by bisection on [0, 32]. Labels of a confident teacher need s far above 1:
with s = 1 and C = 1000 the top class gets 0.13.

Where we differ, and why:
* The paper has a separate cross-entropy for the true class and ranks the others by votes of the positions of a feature
  map. A label pack gives one distribution, so the teacher's top class has rank 1 and its logits rank the rest.
* Ties of logits are broken by class, because a ranking cannot represent them. Equal logits are not decoded to equal
  ones.

Cost: one sort per label, O(C log C). Bytes: 1 per entry up to 256 classes, 2 above; 2 more per image if exponents are
fitted. A budget is used up to one entry: the first labels have one more.
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
from dcpipe.types import IntArray, LabelShape
from dcpipe.views import Views, send

_LARGEST_EXPONENT = 32.0  # the second class then has 2e-10 of the first's mass
_HALVINGS = 40


@final
@dataclass(frozen=True)
class Zipf(Codec):
    """`per_view` ranked classes of every view, and one more for the first `extra` views. Arrays: `classes` u8 or u16 [n
    K, per_view], `classes_more` [extra], and `exponents` fp16 [n] if they are fitted."""

    per_view: int
    extra: int
    exponent: float | Literal["fitted"]

    @classmethod
    @validated("codec 'zipf'")
    def plan(cls, shape: LabelShape, budget: int, *, exponent: Positive | Literal["fitted"] = 1.0) -> Self:
        """As many ranks as fit. Raises `DataError` with the size of one per view if that does not fit."""
        fitted = exponent == "fitted"
        check_classes("zipf", shape)
        labels, entry = shape.images * shape.views, class_bytes(shape.classes)
        fixed = 2 * shape.images if fitted else 0
        require_budget(
            "zipf", budget, labels * entry + fixed, shape, "choose a smaller ratio, codec 'prune' or codec 'prune_topk'"
        )
        # The last class needs no entry: its rank is the one that remains.
        entries = Entries.fitting(labels, budget - fixed, entry, max(1, shape.classes - 1))
        return cls(entries.each, entries.extra, "fitted" if fitted else float(exponent))

    def specs(self, shape: LabelShape) -> Specs:
        specs = self._entries(shape).specs("classes", class_dtype(shape.classes))
        return specs | ({"exponents": ((shape.images,), "float16")} if self.exponent == "fitted" else {})

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        entries, flat = self._entries(shape), logits.flatten(0, 1)
        index = (rows[:, None] * shape.views + np.arange(shape.views)).ravel()
        numbers = send(index, flat.device)
        classes = entries.trim(largest(flat, entries.width), numbers)
        arrays = entries.split("classes", classes, index, class_dtype(shape.classes))
        if self.exponent != "fitted":
            return arrays
        ranks = _log_ranks(entries, classes, numbers, shape.classes).to(torch.float64)
        wanted = (torch.softmax(flat.to(torch.float64), dim=1) * ranks).sum(dim=1)
        longer = (numbers < entries.extra).to(wanted)
        found = _fit(wanted.view(len(rows), -1).mean(dim=1), longer.view(len(rows), -1).mean(dim=1), entries, shape)
        return arrays | {"exponents": found.to(torch.float16).cpu().numpy()}

    def locate(self, rows: IntArray, stored: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """The numbers of the labels and the rows of their images."""
        return {"labels": rows * shape.views + stored, "rows": rows}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        entries, index = self._entries(shape), located["labels"]
        classes = entries.gather("classes", arrays, index, torch.int64)
        ranks = _log_ranks(entries, classes, index, shape.classes)
        if self.exponent == "fitted":
            exponents = arrays["exponents"].index_select(0, located["rows"]).to(torch.float32)
            return torch.log_softmax(-ranks * exponents[:, None], dim=1)
        return torch.log_softmax(-ranks * self.exponent, dim=1)

    def _entries(self, shape: LabelShape) -> Entries:
        return Entries(shape.images * shape.views, self.per_view, self.extra)


def _log_ranks(entries: Entries, classes: torch.Tensor, index: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Log rank of every class, f32 [m, c], from the ranked ones [m, width]; the others are tied at the next rank."""
    ranks = torch.arange(1, entries.width + 1, dtype=torch.float32, device=classes.device).log()
    table = entries.trim(ranks.expand(len(classes), -1), index)
    shorter, longer = np.log(entries.each + np.array([1.0, 2.0])).tolist()
    rest = torch.where(index < entries.extra, longer, shorter)
    return rest[:, None].expand(-1, n_classes).clone().scatter_(1, classes, table)


def _fit(wanted: torch.Tensor, longer: torch.Tensor, entries: Entries, shape: LabelShape) -> torch.Tensor:
    """The exponents f64 [b] for which the mean log rank over the views of an image is `wanted` [b]; a share `longer`
    [b] of its views has one more entry."""
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, _LARGEST_EXPONENT)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        mean = (1 - longer) * _mean_log_rank(middle, entries.each, shape.classes)
        if entries.extra:
            mean = mean + longer * _mean_log_rank(middle, entries.width, shape.classes)
        low, high = torch.where(mean > wanted, middle, low), torch.where(mean > wanted, high, middle)
    return (low + high) / 2


def _mean_log_rank(exponents: torch.Tensor, ranked: int, n_classes: int) -> torch.Tensor:
    """Mean log rank under Zipf's law with `ranked` classes ranked and the others tied at the next rank, f64 [b]."""
    ranks = torch.arange(1, ranked + 2, dtype=torch.float64, device=exponents.device).log()
    masses = torch.exp(-exponents[:, None] * ranks)
    masses[:, -1] *= n_classes - ranked
    return (masses * ranks).sum(dim=1) / masses.sum(dim=1)
