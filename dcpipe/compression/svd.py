"""`svd`: the best approximation of rank r of the labels of each image.

Idea: views of one image get similar labels, so its K x C logits M are nearly of low rank. The truncated singular value
decomposition M_r = sum of the first r sigma_i u_i v_i^T is the closest matrix of rank r (Eckart and Young, "The
approximation of one matrix by another of lower rank", Psychometrika 1936), and its factors take r (K + C) numbers
instead of K C.

Method: with G = M M^T (or M^T M, whichever is smaller) = U diag(sigma^2) U^T, the projection U_r U_r^T M is M_r. One
batched symmetric eigenproblem of size min(K, C) per image: O(K C min(K, C)) with a smaller constant than that of an
SVD. Squaring loses singular values below sqrt(rounding) of the largest, 3e-4 in fp32 and 1e-8 in float64, so it is done
in float64. The other factor is projected from M itself and is not affected by this loss.

Bytes: 2 (K + C) per component, with factors in fp16. Both factors get the square roots of the singular values, so that
neither overflows. The rank follows from the budget. The remaining bytes give the first images one more component
(`dcpipe.compression.lowrank`), so the arrays use the budget up to one component. With few classes the ratio is limited:
K = 300, C = 10 reaches 9.7x at rank 1.
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
    """Truncated SVD of the logits of each image: `rank` components, and one more for the first `extra` images. Arrays:
    those of `lowrank`."""

    rank: int
    extra: int = 0

    @classmethod
    def plan(cls, shape: LabelShape, budget: int) -> Self:
        """As many components as fit. Raises `DataError` with the size of rank 1 if that does not fit."""
        smallest = shape.images * lowrank.component_bytes(shape)
        require_budget("svd", budget, smallest, shape, "choose a smaller ratio or codec 'prune'")
        return cls(*lowrank.split(shape, budget))

    def specs(self, shape: LabelShape) -> Specs:
        return lowrank.factor_specs(shape, self.rank, self.extra)

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        left, right = factors(logits, lowrank.components(self.rank, self.extra))
        return lowrank.factor_arrays(left, right, rows, self.rank, self.extra)

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        return lowrank.product(arrays, located["rows"], located["stored"])

    @property
    def settings(self) -> dict[str, Any]:
        return lowrank.stored_settings(super().settings)


def left_vectors(matrices: torch.Tensor) -> torch.Tensor:
    """Left singular vectors of [b, p, q] with p <= q as columns, that of the largest singular value first: [b, p, p].

    Squaring halves the number of digits, so the Gram matrix is float64 for matrices of any dtype: in fp32 it would lose
    singular values below 3e-4 of the largest.
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
    inverse = torch.where(root > 0, 1 / root, 0)  # a matrix of lower rank than requested has zero rows
    return basis * root[:, None, :], projected * inverse[:, :, None]
