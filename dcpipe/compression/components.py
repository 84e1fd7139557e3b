"""Components of few bits: what `lowrank_int8` cuts an image's labels to, and `field` what its fit leaves of them.

A component u v^T of a K x C matrix costs ceil(K bits / 8) + ceil(C bits / 8) + 2 bytes: two rows of codes and their
scales' product in fp16, for only that is ever needed. It says the largest number of the component, which fp16
resolves, and not the size of a step.

They are found one after another in what those before have left, rounding and all, so that each makes up for the
rounding of the others: v starts as the right singular vector (Eckart and Young, 1936) and is rounded; u is the
least-squares one for it, classes weighted, and is rounded; v is the least-squares one for that; three times, then the
scale alone. A second sweep takes each out and finds it again beside all others. With three levels this is close to
the semidiscrete decomposition (Kolda and O'Leary, "A semidiscrete matrix decomposition for latent semantic indexing",
ACM Transactions on Information Systems 1998). Against rounding the singular vectors and solving for all u together,
as was done before, the first sweep lowers the squared error at 3 bits (a teacher of 50 classes, K = 100) by 1 % for 4
components, 5 % for 8, 28 % for 16 and to a quarter for 33; the second takes another 1 %, 4 %, 12 % and 15 %.

The components that a budget buys go to all images evenly, the odd ones to the first images, which were picked first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from dcpipe.compression.base import Array, Specs
from dcpipe.compression.quantise import TERNARY, as_scale, combine, pack, quantise, rounded, row_bytes, unpack_at
from dcpipe.compression.svd import factors
from dcpipe.types import IntArray, LabelShape

_LEAST_WEIGHT = 1e-3  # of a class against the likeliest one
_SWEEPS, _TURNS = 2, 3
_FEWEST = 1.5  # components of 3 bits below which more of three levels are better


def component_bytes(shape: LabelShape, bits: float) -> int:
    """Bytes of one component of one image."""
    return row_bytes(shape.views, bits) + row_bytes(shape.classes, bits) + 2


def split(shape: LabelShape, budget: int, bits: float) -> tuple[int, int]:
    """Components of every image, and how many first images get one more; never beyond full rank."""
    rank, extra = divmod(budget // component_bytes(shape, bits), shape.images)
    full = min(shape.views, shape.classes)
    return (rank, extra) if rank < full else (full, 0)


def width_for(shape: LabelShape, budget: int, alike: int = 1) -> float:
    """Bits of components: 1.6, then 3, while the budget buys at most a few of 3 for each image, then the fewest of 4,
    6 and 8 of which it does not buy all.

    Rounding costs least where the largest component is as small as the last; `alike` is 2 where a fit has already
    taken what all views have in common, and then twice as many are a few.
    """
    n, full = shape.images, min(shape.views, shape.classes)
    bought = budget / (n * component_bytes(shape, 3))
    if bought < min(_FEWEST * alike, full):
        return TERNARY
    if bought < min((1 + math.sqrt(full)) * alike, full):
        return 3
    return next((bits for bits in (4, 6) if budget < n * full * component_bytes(shape, bits)), 8)


def component_specs(shape: LabelShape, rank: int, extra: int, bits: float) -> Specs:
    """Arrays of N = n rank + extra components, image by image; none where N = 0: `left` u8 [N, ...] and `right`
    u8 [N, ...], packed codes of K and of c numbers, and `scale` fp16 [N]."""
    count = shape.images * rank + extra
    if count == 0:
        return {}
    return {
        "left": ((count, row_bytes(shape.views, bits)), "uint8"),
        "right": ((count, row_bytes(shape.classes, bits)), "uint8"),
        "scale": ((count,), "float16"),
    }


def class_weights(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """sqrt(mean over views of softmax(logits / T)) against its largest, f32 [b, 1, c]; ones where T = 0."""
    if temperature == 0:
        return torch.ones_like(logits[:, :1])
    likely = torch.softmax(logits / temperature, dim=-1).mean(1, keepdim=True).sqrt()
    return (likely / likely.amax(-1, keepdim=True)).clamp_min(_LEAST_WEIGHT)


def encode_components(
    matrices: torch.Tensor, weights: torch.Tensor, rows: IntArray, rank: int, extra: int, bits: float
) -> dict[str, Array]:
    """The components of matrices [b, K, c] of images `rows`."""
    most = rank + (extra > 0)
    if most == 0:
        return {}
    # A component that an image does not hold is a zero row: what the image gets does not depend on its block.
    held = torch.from_numpy(np.arange(most) < rank + (rows < extra)[:, None]).to(matrices.device)
    left, right, scale = _find(matrices, weights, held, bits)
    return {
        "left": pack(left[held], bits).cpu().numpy(),
        "right": pack(right[held], bits).cpu().numpy(),
        "scale": scale[held].cpu().numpy(),
    }


def _find(
    matrices: torch.Tensor, weights: torch.Tensor, held: torch.Tensor, bits: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes [b, r, K] and [b, r, c] and fp16 scales [b, r] of the components that are `held`, bool [b, r]."""
    (images, views, classes), most = matrices.shape, held.shape[1]
    heavy = weights.square()
    across, down = matrices, (matrices * heavy).mT.contiguous()  # a row times one of them is several times faster
    starts = weighted_rows(factors(matrices * weights, most)[1], weights)
    rights = [starts[:, i : i + 1] for i in range(most)]
    left, right = matrices.new_zeros(images, most, views), matrices.new_zeros(images, most, classes)
    scale = matrices.new_zeros(images, most, 1, dtype=torch.float16)
    step = matrices.new_zeros(images, 1, most)  # of components, what a code of left times one of right stands for
    unit = float(rounded(torch.ones(()), torch.ones(()), bits)) ** 2
    for _ in range(_SWEEPS):
        for i in range(most):  # over components, not images
            step[:, :, i] = 0  # what the others leave of the matrices is never written out: the rows tell enough
            v = rights[i]
            for turn in range(_TURNS):
                right_codes, right_peak = quantise(v, bits)
                v = rounded(right_codes, right_peak, bits)
                size = (v * heavy * v).sum(-1, keepdim=True)
                aimed = v @ down - ((v * heavy) @ right.mT * step) @ left
                left_codes, left_peak = quantise(_ratio(aimed, size), bits)
                u = rounded(left_codes, left_peak, bits)
                power = u.square().sum(-1, keepdim=True)
                if turn + 1 < _TURNS:
                    v = _ratio(u @ across - (u @ left.mT * step) @ right, power)
            rights[i] = v
            best = _ratio((aimed * u).sum(-1, keepdim=True), power * size) * left_peak * right_peak
            left[:, i], right[:, i] = left_codes[:, 0], right_codes[:, 0]
            scale[:, i] = as_scale(best * held[:, i, None, None])[:, 0]
            step[:, :, i] = scale[:, i] * unit
    return left, right, scale[..., 0]


def _ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """above / below, and 0 where below is."""
    return torch.where(below > 0, above / below, 0)


def weighted_rows(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rows [b, r, c] found under weights, told without them and at unit length; zero ones stay zero."""
    plain = rows / weights
    length = torch.linalg.vector_norm(plain, dim=-1, keepdim=True)
    return plain * torch.where(length > 0, 1 / length, 0)


def against(matrices: torch.Tensor, right: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The left factors [b, K, r] with which `right` [b, r, c] comes closest to the matrices, classes weighted; zero
    where a row of `right` is."""
    wide = (right * weights).to(torch.float64)
    gram = wide @ wide.mT
    size = gram.diagonal(dim1=-2, dim2=-1).amax(-1).clamp_min(1e-30)
    gram = gram + 1e-9 * size[:, None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    aimed = wide @ (matrices * weights).to(torch.float64).mT
    return torch.cholesky_solve(aimed, torch.linalg.cholesky(gram)).mT.to(matrices.dtype)


def decode_components(
    arrays: Mapping[str, torch.Tensor],
    rows: IntArray,
    stored: IntArray,
    shape: LabelShape,
    rank: int,
    extra: int,
    bits: float,
) -> torch.Tensor:
    """Row `stored[j]` of image `rows[j]`'s components' sum, f32 [m, c]."""
    device = arrays["scale"].device
    place = (rows * rank + np.minimum(rows, extra))[:, None] + np.arange(rank + (extra > 0))
    held = np.arange(rank + (extra > 0)) < rank + (rows < extra)[:, None]
    index = torch.from_numpy(np.where(held, place, 0)).to(device)
    scale = arrays["scale"][index].to(torch.float32) * torch.from_numpy(held).to(device)
    view = torch.from_numpy(stored).to(device)[:, None]
    left = unpack_at(arrays["left"], bits, index, view) * scale
    right = arrays["right"].index_select(0, index.flatten()).reshape(*index.shape, arrays["right"].shape[1])
    return combine(left[:, None, :], right, bits, shape.classes)[:, 0]
