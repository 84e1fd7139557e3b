"""`rsvd`: factors of rank r of the labels of each image by a randomized singular value decomposition.

Idea: the leading singular vectors of M span nearly the same space as the images of a few random vectors under M. With
Gaussian Omega of l = r + oversampling columns, compute an orthonormal basis Q of the range of (M M^T)^q M Omega. Then
Q^T M is a matrix of l rows, whose truncated SVD, multiplied by Q, is that of M except for what Q misses (Halko,
Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011).

Method: Alg. 4.4, randomized subspace iteration: Q = orth(M Omega), then q times Q = orth(M orth(M^T Q)), with each step
orthonormalised by QR, because in fp32 plain powers (Alg. 4.3) lose all directions below rounding^(1 / (2 q + 1)) of the
largest, which is 4 % for q = 2. Then Alg. 5.1: B = Q^T M, its truncated SVD, and Q times its left factor. The expected
squared Frobenius error of Q Q^T M is at most 1 + r / (oversampling - 1) times the optimum for q = 0 (Theorem 10.5), and
nearly the optimum for q = 2. Defaults: oversampling 10 and q = 2, the usual values in the paper (Sec. 1.6 and 4.2).

Cost: O(K C l) for each of 2 q + 2 products, compared with O(K C min(K, C)) for `svd`; if l is close to min(K, C), it is
not faster. Batched over images.

Bytes and arrays are those of `svd`. Omega takes no bytes, because it is not needed for decoding.

Where we differ, and why: M is transposed if it has more classes than views, so that Omega has only min(K, C) rows. Its
numbers depend only on (seed, image), so labels do not depend on blocks. They are pairs of uniform numbers of
`dcpipe.random`, transformed to normal ones by the method of Box and Muller ("A note on the generation of random normal
deviates", 1958).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import torch

from dcpipe.compression import lowrank
from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.compression.svd import factors
from dcpipe.config.options import validated
from dcpipe.config.values import Natural, Seed
from dcpipe.random import Draw, philox, uniform
from dcpipe.types import FloatArray, IntArray, LabelShape
from dcpipe.views import Views


@final
@dataclass(frozen=True)
class Rsvd(Codec):
    """Randomized SVD of the logits of each image: `rank` components, and one more for the first `extra` images. Arrays:
    those of `lowrank`."""

    rank: int
    oversampling: int
    power_iterations: int
    seed: int
    extra: int = 0

    @classmethod
    @validated("codec 'rsvd'")
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        oversampling: Natural = 10,
        power_iterations: Natural = 2,
        seed: Seed = 0,
    ) -> Self:
        """As many components as fit. Raises `DataError` with the size of rank 1 if that does not fit."""
        smallest = shape.images * lowrank.component_bytes(shape)
        require_budget("rsvd", budget, smallest, shape, "choose a smaller ratio or codec 'prune'")
        rank, extra = lowrank.split(shape, budget)
        return cls(rank, oversampling, power_iterations, seed, extra)

    def specs(self, shape: LabelShape) -> Specs:
        return lowrank.factor_specs(shape, self.rank, self.extra)

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        rank, side = lowrank.components(self.rank, self.extra), min(shape.views, shape.classes)
        omega = normals(self.seed, rows, side, min(rank + self.oversampling, side))
        start = torch.from_numpy(omega).to(logits.device, logits.dtype)
        left, right = randomized_factors(logits, rank, start, self.power_iterations)
        return lowrank.factor_arrays(left, right, rows, self.rank, self.extra)

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        return lowrank.product(arrays, located["rows"], located["stored"])

    @property
    def settings(self) -> dict[str, Any]:
        return lowrank.stored_settings(super().settings)


def normals(seed: int, rows: IntArray, height: int, width: int) -> FloatArray:
    """A matrix of standard normal numbers for each image, f64 [b, height, width]: a function of (seed, image)."""
    count = height * width
    u = uniform(philox(seed, np.arange(-(-count // 4)), Draw.RSVD, rows[:, None]))  # [b, quarters, 4]
    radius = np.sqrt(-2 * np.log1p(-u[..., :2]))  # 1 - u is in (0, 1], so the logarithm is finite
    angle = 2 * np.pi * u[..., 2:]
    pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(len(rows), -1)[:, :count].reshape(len(rows), height, width)


def randomized_factors(
    matrices: torch.Tensor, rank: int, omega: torch.Tensor, power_iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors [b, K, rank] and [b, rank, c] of [b, K, c], balanced, from test matrices [b, min(K, c), l >= rank]."""
    if matrices.shape[-2] < matrices.shape[-1]:
        right, left = randomized_factors(matrices.mT, rank, omega, power_iterations)
        return left.mT, right.mT
    basis = torch.linalg.qr(matrices @ omega).Q
    for _ in range(power_iterations):
        across = torch.linalg.qr(matrices.mT @ basis).Q
        basis = torch.linalg.qr(matrices @ across).Q
    left, right = factors(basis.mT @ matrices, rank)
    return basis @ left, right
