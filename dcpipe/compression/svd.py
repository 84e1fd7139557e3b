"""`svd`: the best approximation of rank r of each image's labels.

Idea: views of one image get similar labels, so its K x C logits M are nearly of low rank. The truncated singular value
decomposition M_r = sum of the first r sigma_i u_i v_i^T is the closest matrix of rank r (Eckart and Young, "The
approximation of one matrix by another of lower rank", Psychometrika 1936), and its factors take r (K + C) numbers
instead of K C.

Method: with G = M M^T (or M^T M, whichever is smaller) = U diag(sigma^2) U^T, the projection U_r U_r^T M is M_r. One
batched symmetric eigenproblem of side min(K, C) an image: O(K C min(K, C)) with a smaller constant than an SVD's.
Squaring loses singular values below sqrt(rounding) of the largest, 3e-4 in fp32 and 1e-8 in float64; so it is done in
float64. The other factor is projected from M itself and does not carry that loss.

Bytes: fp16 factors, the singular values split evenly (square roots) into both so that neither overflows: 2 (K + C) a
component. The rank follows from the budget; what is left of it gives the first images one component more
(`dcpipe.compression.lowrank`), so the arrays end within one component of the budget. With few classes this cannot go
far: K = 300, C = 10 reaches 9.7x at rank 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch

from dcpipe.compression import lowrank
from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.types import IntArray, LabelShape
from dcpipe.views import Views


@final
@dataclass(frozen=True)
class Svd(Codec):
    """Truncated SVD of each image's logits: `rank` components, one more in the first `extra` images. Arrays: those of
    `lowrank`."""

    rank: int
    extra: int = 0

    @classmethod
    def plan(cls, shape: LabelShape, budget: int) -> Self:
        """As many components as fit; raises `DataError` naming the size of rank 1 when that does not."""
        smallest = shape.images * lowrank.component_bytes(shape)
        require_budget("svd", budget, smallest, shape, "choose a smaller ratio or codec 'prune'")
        return cls(*lowrank.split(shape, budget))

    def specs(self, shape: LabelShape) -> Specs:
        return lowrank.factor_specs(shape, self.rank, self.extra)

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        left, right = factors(logits, lowrank.components(self.rank, self.extra))
        return lowrank.factor_arrays(left, right, rows, self.rank, self.extra)

    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        return lowrank.product(arrays, rows, stored)

    @property
    def settings(self) -> dict[str, Any]:
        return lowrank.spoken(super().settings)


def left_vectors(matrices: torch.Tensor) -> torch.Tensor:
    """Left singular vectors of [b, p, q] with p <= q, in columns, of the largest singular value first: [b, p, p].

    Squaring halves the digits, so the Gram matrix is float64 whatever the matrices are: in fp32 it loses singular
    values below 3e-4 of the largest.
    """
    wide = matrices.to(torch.float64)
    vectors: torch.Tensor = torch.linalg.eigh(wide @ wide.mT).eigenvectors
    return vectors.flip(-1).to(matrices.dtype)


def factors(matrices: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best factors [b, K, rank] and [b, rank, c] of [b, K, c], balanced; in the matrices' dtype."""
    if matrices.shape[-2] > matrices.shape[-1]:
        right, left = factors(matrices.mT, rank)
        return left.mT, right.mT
    basis = left_vectors(matrices)[..., :rank]
    projected = basis.mT @ matrices  # row i is sigma_i v_i
    root = torch.linalg.vector_norm(projected, dim=-1).sqrt()
    inverse = torch.where(root > 0, 1 / root, 0)  # a matrix of lower rank than asked for has zero rows
    return basis * root[:, None, :], projected * inverse[:, :, None]
