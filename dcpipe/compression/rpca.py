"""`rpca`: robust PCA of each image's labels, SCORE's codec (Sec. 5.2), truncated to a byte budget.

Idea: split the K x C logits M of an image into a low-rank part L, which its views share, and a sparse part S, for the
few labels of unusual crops. Principal component pursuit (Candes, Li, Ma and Wright, "Robust principal component
analysis?", JACM 2011) is the convex form of SCORE's Eq. 9:

    min ||L||_* + lam ||S||_1   subject to   L + S = M,      lam = 1 / sqrt(max(K, C)).

Solved by the inexact augmented Lagrange multiplier method (Lin, Chen and Ma, "The augmented Lagrange multiplier method
for exact recovery of corrupted low-rank matrices", 2010) with its constants: Y0 = M / max(||M||_2, max|M| / lam),
mu0 = 1.25 / ||M||_2, rho = 1.5 up to 1e7 mu0, and, with shrink(x, t) = sign(x) max(|x| - t, 0),

    S = shrink(M - L + Y / mu, lam / mu);  L = shrink of the singular values of M - S + Y / mu by 1 / mu;
    Z = M - L - S;  Y += mu Z;  mu = min(rho mu, mu_max);  until ||Z||_F <= tolerance ||M||_F.

Where we differ, and why:
* PCP alone does not compress. L + S = M exactly, and on logits of teachers L has more than half of the full rank and S
  is mostly nonzero, so together they are larger than M. SCORE does not say how it meets a budget. Here L is truncated
  to its best approximation of rank r (Eckart and Young), and S to its k largest |entries| per view; decoding gives L_r
  + S_k. The remaining bytes give the first images one more component of L (`dcpipe.compression.lowrank`), and never
  more than its share to S: on synthetic labels with K = 300 and C = 1000 at 30x, one more entry per view instead gave a
  relative error of .306 instead of .277. So the arrays use the budget up to one component.
* What S cannot keep is lost by default, because L no longer contains it. If C > K, lam is small enough that the pursuit
  moves a class that all views agree on into S: a constant logit of 60 (K = 30, C = 40, no bytes for S) decodes to 22,
  whereas `svd` decodes 60. In general `svd` is better at equal bytes: relative error .184 against .388 for made labels
  of K = 300 and C = 1000 at 10x. The default is also not monotone, because one entry of S per view costs bytes that L
  would use better: for K = 60 and C = 50, KL at T = 4 is 1.228 at 8x and 1.166 at 10x.
* With `residual="refit"`, S from the pursuit is only a start. Three times, L becomes the best approximation of M - S of
  rank r, and then S the k largest entries of M - L per view; the last L is fitted to M - S too. Each step minimises
  ||M - L - S||, as in GoDec (Zhou and Tao, "GoDec: randomized low-rank & sparse matrix decomposition in noisy case",
  ICML 2011). So L gets back what S cannot keep, and without S the result is that of `svd`. This costs three more
  truncated SVDs. It does not change how a budget is shared.
* All images are solved in batches. An image that has converged leaves its batch, so its result does not depend on the
  others. `dcpipe.compression.pursuit` describes how singular values are shrunk without an SVD.
* The tolerance of the paper, 1e-7, is below the resolution of fp32. It is 1e-5 in float32 and 1e-7 in float64.

Cost: 15-35 iterations of O(K C min(K, C)) per image. Bytes: 2 (K + C) per component of L; for S, n K k times 2 (fp16
value) plus 1 or 2 (column, u8 up to 256 classes and u16 above).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import numpy as np
import torch

from dcpipe.compression import lowrank
from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.compression.entries import check_classes, class_bytes, class_dtype
from dcpipe.compression.pursuit import pursue
from dcpipe.compression.svd import factors
from dcpipe.config.options import validated
from dcpipe.config.values import Positive, Share
from dcpipe.types import IntArray, LabelShape, require
from dcpipe.views import Views

Precision = Literal["float32", "float64"]
Residual = Literal["drop", "refit"]
TOLERANCES: dict[str, float] = {"float32": 1e-5, "float64": 1e-7}
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_ROUNDS = 3  # of refitting L and S
_FLOOR = {"float32": 3e-6, "float64": 1e-14}  # relative residuals that rounding alone leaves


def _together(*, tolerance: float | None, precision: Precision, **others: Any) -> None:
    require(
        tolerance is None or tolerance >= _FLOOR[precision],
        f"tolerance is {tolerance}, below what {precision} resolves ({_FLOOR[precision]}); give a larger one or "
        "precision float64",
    )


@final
@dataclass(frozen=True)
class Rpca(Codec):
    """L_r + S_k, with one more component for the first `extra` images. Arrays: those of `lowrank`, and unless k = 0
    `values` fp16 [n, K, k] and `columns` u8 or u16 [n, K, k]: the classes of the values, distinct within a view."""

    rank: int
    per_view: int
    lam: float
    tolerance: float
    precision: Precision
    extra: int = 0
    residual: Residual = "drop"

    @classmethod
    @validated("codec 'rpca'", _together)
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        sparse_share: Share = 0.25,
        lam: Positive | None = None,
        tolerance: Positive | None = None,
        precision: Precision = "float32",
        residual: Residual = "drop",
    ) -> Self:
        """Components and entries per view that fit.

        At most `sparse_share` of the bytes is used for S, and less if L would otherwise not get rank 1. If L has full
        rank, the bytes that it cannot use go to S as well, unless the share is 0. `lam` is by default 1 / sqrt(max(K,
        C)), `tolerance` 1e-5 in float32 and 1e-7 in float64. `residual`: what L and S cannot keep of the pursuit's
        parts is dropped, or both parts are fitted again (`refit`). Raises `DataError` with the size of rank 1 if that
        does not fit.
        """
        lam = 1 / math.sqrt(max(shape.views, shape.classes)) if lam is None else lam
        tolerance = TOLERANCES[precision] if tolerance is None else tolerance
        check_classes("rpca", shape)
        smallest, per_entry = shape.images * lowrank.component_bytes(shape), _entry_bytes(shape)
        require_budget("rpca", budget, smallest, shape, "choose a smaller ratio or codec 'prune'")
        per_view = min(int(sparse_share * budget) // per_entry, (budget - smallest) // per_entry, shape.classes)
        rank, extra = lowrank.split(shape, budget - per_view * per_entry)
        if rank == min(shape.views, shape.classes) and sparse_share > 0:
            per_view = min((budget - rank * smallest) // per_entry, shape.classes)
        return cls(rank, per_view, float(lam), float(tolerance), precision, extra, residual)

    def specs(self, shape: LabelShape) -> Specs:
        low = lowrank.factor_specs(shape, self.rank, self.extra)
        if self.per_view == 0:
            return low
        sparse = (shape.images, shape.views, self.per_view)
        return {**low, "values": (sparse, "float16"), "columns": (sparse, class_dtype(shape.classes))}

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Raises `DataError` if the pursuit does not reach its tolerance."""
        matrices = logits.to(_DTYPES[self.precision])
        low, sparse = pursue(matrices, lam=self.lam, tolerance=self.tolerance)
        if self.residual == "refit":
            low, sparse = self._refit(matrices, sparse, rows)
        left, right = factors(low, lowrank.components(self.rank, self.extra))
        arrays = lowrank.factor_arrays(left, right, rows, self.rank, self.extra)
        if self.per_view > 0:
            columns = sparse.abs().topk(self.per_view, dim=-1).indices
            arrays["values"] = lowrank.as_fp16(sparse.gather(-1, columns))
            arrays["columns"] = columns.cpu().numpy().astype(class_dtype(shape.classes))
        return arrays

    def _refit(self, matrices: torch.Tensor, sparse: torch.Tensor, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """M - S and S [b, K, c] after `_ROUNDS` rounds that start from the pursuit's S; S has `per_view` entries per
        view, rounded as they are stored, so that L can compensate for the rounding."""
        if self.per_view == 0:
            return matrices, torch.zeros_like(matrices)
        most = lowrank.components(self.rank, self.extra)
        held = torch.from_numpy(np.arange(most) < self.rank + (rows < self.extra)[:, None]).to(matrices.device)
        sparse = _largest(sparse, self.per_view)
        for _ in range(_ROUNDS):
            left, right = factors(matrices - sparse, most)
            sparse = _largest(matrices - (left * held[:, None]) @ right, self.per_view)
        return matrices - sparse, sparse

    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        logits = lowrank.product(arrays, rows, stored)
        if self.per_view == 0:
            return logits
        image, view = torch.from_numpy(rows).to(logits.device), torch.from_numpy(stored).to(logits.device)
        columns = arrays["columns"][image, view].to(torch.int64)
        return logits.scatter_add(1, columns, arrays["values"][image, view].to(torch.float32))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without `residual` if it is the default, so that such packs are byte-identical to older ones."""
        settings = lowrank.stored_settings(super().settings)
        return {name: value for name, value in settings.items() if (name, value) != ("residual", "drop")}


def _largest(matrices: torch.Tensor, count: int) -> torch.Tensor:
    """The matrices with all but the `count` largest |entries| of each row set to zero, rounded to fp16."""
    columns = matrices.abs().topk(count, dim=-1).indices
    values = torch.from_numpy(lowrank.as_fp16(matrices.gather(-1, columns))).to(matrices)
    return torch.zeros_like(matrices).scatter(-1, columns, values)


def _entry_bytes(shape: LabelShape) -> int:
    """Bytes of one more sparse entry per view, for all images."""
    return shape.images * shape.views * (2 + class_bytes(shape.classes))
