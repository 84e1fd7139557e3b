"""`cur`: some columns and rows of the labels of each image, and a small matrix that links them.

Idea: M ~ C U R, where C is r actual columns of the K x C labels (all views' logits of r classes) and R is r actual rows
(all logits of r views), so the factors can be interpreted: they are exact labels. U = C^+ M R^+ is the matrix that
minimises ||M - C U R||_F for these columns and rows (Stewart, "Four algorithms for the efficient computation of
truncated pivoted QR approximations to a sparse matrix", Numerische Mathematik 1999).

How they are chosen (`pick`):
* `pivoted_qr`, Stewart's method: repeatedly the column whose component outside the span of the picked ones is longest.
  His quasi-Gram-Schmidt method never updates M: the squared residual lengths decrease by (q^T m_j)^2 for each new
  direction q. Rows are picked in the same way from M^T.
* `leverage`, Mahoney and Drineas, "CUR matrix decompositions for improved data analysis", PNAS 2009: by the scores pi_j
  = (1/r) sum of v_j^2 over the r leading right singular vectors; rows by the left ones. `sampling: top` takes the r
  largest scores; `column_select`, the algorithm of that name in the paper, draws with probabilities that depend on the
  scores.

Method: with QR factors C = Q_C T_C and R^T = Q_R T_R, U = T_C^+ (Q_C^T M Q_R) (T_R^+)^T, where all factors are small.
Columns of labels are nearly dependent, and an exact pseudo-inverse may give a U that is too large for fp16. So singular
values of T_C and T_R below a cutoff are dropped, and for each image the cutoff is used with which the rounded U gives
the smallest error. This error can be computed from r x r matrices alone, because Q_C and Q_R are orthonormal. The
rounding of U is negligible until r approaches min(K, C), where it adds an error of 0.5 to 2 % of the norm of the
labels.

Cost: O(K C r) per image, and for `leverage` an eigenproblem of size min(K, C). All is batched over images; the loop of
pivoted QR is over picks.

Bytes: C, U and R in fp16, 2 (r K + r C + r^2) per image; the indices of columns and rows are not needed for decoding.
As in `svd`, the first `extra` images have one more of each, which takes 2 (K + C + 2 r + 1) bytes. At equal bytes the
error of `pivoted_qr` is 1.3 to 1.9 times that of `svd` (logits of networks on CIFAR-10 and Tiny-ImageNet-50, and
synthetic ones of rank 24). With `leverage` it is mostly larger, and on logits of networks mostly larger with `top` than
with `column_select`.

Where we differ, and why:
* ColumnSelect keeps column j with probability min(1, c pi_j), so the number of columns is random, but a byte budget
  needs exactly r. Here they are drawn one after another without replacement, in proportion to the scores (Efraimidis
  and Spirakis, "Weighted random sampling with a reservoir", 2006: the r smallest of -log(u_j) / pi_j).
* U is stored multiplied by max |R|, which decoding divides out again, so that it stays in the range of fp16 for logits
  of any scale.
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
from dcpipe.compression.svd import factors
from dcpipe.config.options import validated
from dcpipe.config.values import Seed
from dcpipe.random import Draw, philox, uniform
from dcpipe.types import IntArray, LabelShape, require
from dcpipe.views import Views

Pick = Literal["pivoted_qr", "leverage"]
Sampling = Literal["top", "column_select"]
_CUTOFFS = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)  # of singular values, relative to the largest


def _together(*, pick: Pick, sampling: Sampling, **others: Any) -> None:
    require(
        pick == "leverage" or sampling == "top",
        f"sampling {sampling!r} uses leverage scores, but pick is {pick!r}; choose pick leverage",
    )


@final
@dataclass(frozen=True)
class Cur(Codec):
    """C U R of each image's logits: `rank` columns and rows, one more in the first `extra` images.

    Arrays: `left` fp16 [n, K, r], `middle` fp16 [n, r, r], `right` fp16 [n, r, c]; and if extra > 0, `left_more` fp16
    [extra, K], `right_more` fp16 [extra, c] and `middle_more` fp16 [extra, 2 r + 1]: the last column of U, then the
    rest of its last row.
    """

    rank: int
    pick: Pick
    sampling: Sampling
    seed: int
    extra: int = 0

    @classmethod
    @validated("codec 'cur'", _together)
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        pick: Pick = "pivoted_qr",
        sampling: Sampling = "top",
        seed: Seed = 0,
    ) -> Self:
        """As many columns and rows as fit. Raises `DataError` with the size of rank 1 if that does not fit."""
        n, side = shape.images, shape.views + shape.classes
        require_budget("cur", budget, 2 * n * (side + 1), shape, "choose a smaller ratio or codec 'prune'")
        numbers = budget // (2 * n)
        rank = (math.isqrt(side**2 + 4 * numbers) - side) // 2  # the largest rank with rank^2 + rank side <= numbers
        if rank >= min(shape.views, shape.classes):
            return cls(min(shape.views, shape.classes), pick, sampling, seed)
        left = budget - 2 * n * rank * (side + rank)
        return cls(rank, pick, sampling, seed, left // (2 * (side + 2 * rank + 1)))

    def specs(self, shape: LabelShape) -> Specs:
        specs = lowrank.factor_specs(shape, self.rank, self.extra)
        specs["middle"] = ((shape.images, self.rank, self.rank), "float16")
        if self.extra > 0:
            specs["middle_more"] = ((self.extra, 2 * self.rank + 1), "float16")
        return specs

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        r, more = self.rank, lowrank.extra_rows(rows, self.extra)
        left, middle, right = self._skeleton(logits[more:], rows[more:], r)
        if self.extra == 0:
            return {"left": left, "middle": middle, "right": right}
        first_left, first_middle, first_right = self._skeleton(logits[:more], rows[:more], r + 1)
        return {
            "left": np.concatenate([first_left[:, :, :r], left]),
            "middle": np.concatenate([first_middle[:, :r, :r], middle]),
            "right": np.concatenate([first_right[:, :r], right]),
            "left_more": first_left[:, :, r].copy(),
            "middle_more": np.concatenate([first_middle[:, :, r], first_middle[:, r, :r]], axis=1),
            "right_more": first_right[:, r].copy(),
        }

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        r, rows, stored = self.rank, located["rows"], located["stored"]
        left, middle, right = (
            part.to(torch.float32)
            for part in (arrays["left"][rows, stored], arrays["middle"][rows], arrays["right"][rows])
        )
        scale = _largest(right)
        weights = torch.bmm(left[:, None, :], middle)[:, 0]
        if self.extra == 0:
            return torch.bmm(weights[:, None, :], right)[:, 0] / scale
        place, image = lowrank.having_more(rows, self.extra)
        longer = rows[place, None] < self.extra
        more = arrays["left_more"][image, stored[place], None].to(torch.float32)
        border = arrays["middle_more"][image].to(torch.float32)
        down, corner, across = border[:, :r], border[:, r : r + 1], border[:, r + 1 :]
        weights[place] += torch.where(longer, more * across, 0)
        last = (left[place] * down).sum(1, keepdim=True) + more * corner
        logits = torch.bmm(weights[:, None, :], right)[:, 0]
        logits[place] += torch.where(longer, last * arrays["right_more"][image].to(torch.float32), 0)
        return logits / scale

    @property
    def settings(self) -> dict[str, Any]:
        return lowrank.stored_settings(super().settings)

    def _skeleton(self, logits: torch.Tensor, rows: IntArray, rank: int) -> tuple[Array, Array, Array]:
        """C [b, K, rank], U max |R| [b, rank, rank] and R [b, rank, c] of some images, fp16."""
        matrices = logits.to(torch.float16).to(torch.float64)  # no change for logits that were fp16
        columns, lines = self._picks(matrices, rows, rank)
        left = matrices.gather(2, columns[:, None, :].expand(-1, matrices.shape[1], -1))
        right = matrices.gather(1, lines[:, :, None].expand(-1, -1, matrices.shape[2]))
        return lowrank.as_fp16(left), lowrank.as_fp16(between(matrices, left, right)), lowrank.as_fp16(right)

    def _picks(self, matrices: torch.Tensor, rows: IntArray, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns and rows to store, both i64 [b, rank] and distinct within an image."""
        if self.pick == "pivoted_qr":
            return pivots(matrices, rank), pivots(matrices.mT, rank)
        scores: tuple[torch.Tensor, ...] = leverage(matrices, rank)
        if self.sampling == "column_select":
            most = np.arange(max(matrices.shape[1:]))
            u = torch.from_numpy(uniform(philox(self.seed, most, Draw.CUR, rows[:, None]))).to(matrices.device)
            # Largest pi / -log(1 - u) instead of smallest -log(1 - u) / pi: scores may be zero.
            scores = tuple(pi / -torch.log1p(-u[:, : pi.shape[1], side]) for side, pi in enumerate(scores))
        columns, lines = (pi.sort(dim=1, descending=True, stable=True).indices[:, :rank] for pi in scores)
        return columns, lines


def pivots(matrices: torch.Tensor, rank: int) -> torch.Tensor:
    """The columns of [b, K, c] that pivoted QR picks first, i64 [b, rank]; ties go to the first column.

    A column that depends on those picked before is picked only when no other is left.
    """
    lengths = matrices.square().sum(dim=1)
    basis = matrices.new_zeros(*matrices.shape[:2], rank)
    each = torch.arange(len(matrices), device=matrices.device)
    picked = torch.zeros(len(matrices), rank, dtype=torch.int64, device=matrices.device)
    for step in range(rank):
        column = lengths.argmax(dim=1)
        picked[:, step] = column
        fresh = matrices[each, :, column][:, :, None]
        for _ in range(2):  # twice is enough for orthogonality up to rounding (Kahan and Parlett)
            fresh = fresh - basis @ (basis.mT @ fresh)
        length = torch.linalg.vector_norm(fresh, dim=1, keepdim=True)
        basis[:, :, step : step + 1] = torch.where(length > 0, fresh / length, 0)
        lengths = lengths - (basis[:, None, :, step] @ matrices)[:, 0].square()
        lengths[each, column] = -torch.inf
    return picked


def leverage(matrices: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of the columns [b, c] and of the rows [b, K], by the `rank` leading singular vectors; each sums to 1."""
    left, right = factors(matrices, rank)
    columns = torch.nn.functional.normalize(right, dim=2).square().mean(dim=1)
    return columns, torch.nn.functional.normalize(left, dim=1).square().mean(dim=2)


def between(matrices: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """U = C^+ M R^+ times max |R|, f64 [b, r, r], with the best cutoff for rounding to fp16; see the module."""
    (basis, inner), (across, outer) = torch.linalg.qr(left), torch.linalg.qr(right.mT)
    core = basis.mT @ matrices @ across
    scale = _largest(right)[:, :, None]
    (u, s, vh), (p, t, wh) = torch.linalg.svd(inner), torch.linalg.svd(outer)
    turned = u.mT @ core @ p
    best, least = torch.zeros_like(core), torch.full_like(core[:, 0, 0], torch.inf)
    for cutoff in _CUTOFFS:
        kept = _inverse(s, cutoff)[:, :, None] * turned * _inverse(t, cutoff)[:, None, :]
        middle = scale * (vh.mT @ kept @ wh)
        rounded = middle.to(torch.float16).to(torch.float64)
        error = torch.linalg.matrix_norm(core - inner @ (rounded / scale) @ outer.mT)
        better = error < least  # never true if U overflows, because its error is infinite or NaN
        best, least = torch.where(better[:, None, None], rounded, best), torch.where(better, error, least)
    return best


def _inverse(values: torch.Tensor, cutoff: float) -> torch.Tensor:
    """1 / s for singular values [b, r], largest first, and 0 for those below the cutoff or zero."""
    return torch.where(values > cutoff * values[:, :1], 1 / values, 0)


def _largest(right: torch.Tensor) -> torch.Tensor:
    """max |R| of each image, [b, 1], or 1 where R is zero."""
    largest = right.abs().amax(dim=(1, 2))[:, None]
    return torch.where(largest > 0, largest, 1)
