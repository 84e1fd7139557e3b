"""`lowrank_int8`: the mean label of each image, and the best low-rank change from view to view, in few bits.

Idea: of an image's K x C logits the mean over its views is the largest part and costs only C numbers. What is left,
D = M - 1 mean^T, is cut to r components u_i v_i^T by a truncated SVD (Eckart and Young, 1936), and both factors are
rounded to 8, 6, 4 or 3 bits. Rounding is cheap where truncation is dear: on real teachers' labels the error of a
component at 4 bits is far below what the next component brings, and it costs a quarter of fp16's bytes.

Method: classes are weighted by w_c, the square root of the mean over views of softmax(M / T)_c (T = `temperature`).
To second order KL(softmax(M / T) || softmax(N / T)) is half the squared error weighted by the probabilities, so the
components kept are those a student trained at T sees; at T = 20 this is nearly plain SVD, but not worse anywhere.
v_i are the right singular vectors of D diag(w), divided by w and rounded. The left factor is then the least-squares
one for the rounded v_i (Cholesky of an r x r matrix), so that it makes up for their rounding, and is rounded itself.
Only the product of the factors' scales is ever needed, so one fp16 number a component holds it; there is nothing to
balance. It says the largest number of the component, which fp16 resolves, and not the size of a step.

Bytes of an image: C + 2 for the mean at 8 bits; ceil(K bits / 8) + ceil(C bits / 8) + 2 a component. The components
that a budget buys go to all images evenly, the odd ones to the first images, which were picked first; so budgets are
met to one component of one image. Least: the mean alone. Optionally the k largest logits of every view are stored
exactly: fp16 and class (u8 up to 256 classes, else u16), k from `exact_share` of the budget.

Measured on teachers' labels (CIFAR-10 and 50 classes of Tiny-ImageNet, K = 100): at equal bytes the mean beats giving
its bytes to components; 3 bits beat 4 for the first few components, 4 beat 6 and 8 until all components are bought;
exact logits raise top-1 agreement but lower the KL at no temperature (1, 4, 20). Hence the defaults; `bits: null`
chooses by what fits.

Cost: one eigenproblem of side min(K, C) an image. Rounded labels are float32 products of small integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch

from dcpipe.compression.quantise import (
    as_scale,
    check_bits,
    coded,
    pack,
    quantise,
    rounded,
    row_bytes,
    unpack,
    unpack_at,
)
from dcpipe.compression.seam import Array, Codec, Specs, require_budget
from dcpipe.compression.svd import factors
from dcpipe.types import IntArray, LabelShape, require
from dcpipe.views import Views

_MOST_CLASSES = 2**16
_LEAST_WEIGHT = 1e-3  # of a class against the likeliest one


@final
@dataclass(frozen=True)
class LowrankInt8(Codec):
    """Mean and components. Arrays: `mean` u8 [n, c], `mean_scale` fp16 [n]; those of `component_specs`; and unless
    k = 0 `values` fp16 [n, K, k], `columns` u8 or u16 [n, K, k]."""

    rank: int
    extra: int
    bits: int
    per_view: int
    temperature: float

    @classmethod
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        bits: int | None = None,
        exact_share: float = 0.0,
        temperature: float = 20.0,
    ) -> Self:
        """As many components as fit beside the mean and `exact_share` of the bytes for exact logits.

        `temperature` weighs the classes, 0 not at all. Raises `DataError` naming the size of the mean alone when
        that does not fit.
        """
        if bits is not None:
            check_bits("lowrank_int8", "bits", bits)
        require(
            0 <= exact_share < 1, f"codec 'lowrank_int8': exact_share is {exact_share}; give a share from 0 to below 1"
        )
        require(temperature >= 0, f"codec 'lowrank_int8': temperature is {temperature}; give a number from 0 on")
        classes = shape.classes
        require(
            classes <= _MOST_CLASSES,
            f"codec 'lowrank_int8': {classes} classes, columns are stored up to {_MOST_CLASSES}; choose codec 'svd'",
        )
        mean = shape.images * (row_bytes(classes, 8) + 2)
        require_budget("lowrank_int8", budget, mean, shape, "choose a smaller ratio")
        per_entry = shape.images * shape.views * (2 + np.dtype(_column_dtype(shape)).itemsize)
        per_view = min(int(exact_share * (budget - mean)) // per_entry, classes)
        left = budget - mean - per_view * per_entry
        width = width_for(shape, left, few(shape)) if bits is None else bits
        return cls(*split(shape, left, width), width, per_view, float(temperature))

    def specs(self, shape: LabelShape) -> Specs:
        specs: Specs = {"mean": ((shape.images, shape.classes), "uint8"), "mean_scale": ((shape.images,), "float16")}
        specs |= component_specs(shape, self.rank, self.extra, self.bits)
        if self.per_view > 0:
            entries = (shape.images, shape.views, self.per_view)
            specs |= {"values": (entries, "float16"), "columns": (entries, _column_dtype(shape))}
        return specs

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        codes, scale = coded(logits.mean(1), 8)
        mean = rounded(codes, scale.to(torch.float32), 8)
        arrays = {"mean": pack(codes, 8).cpu().numpy(), "mean_scale": scale[:, 0].cpu().numpy()}
        weights = class_weights(logits, self.temperature)
        arrays |= encode_components(logits - mean[:, None], weights, rows, self.rank, self.extra, self.bits)
        if self.per_view > 0:
            values, columns = logits.topk(self.per_view, dim=-1)
            arrays["values"] = values.to(torch.float16).cpu().numpy()
            arrays["columns"] = columns.cpu().numpy().astype(_column_dtype(shape))
        return arrays

    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        device = arrays["mean"].device
        image, view = torch.from_numpy(rows).to(device), torch.from_numpy(stored).to(device)
        logits = unpack(arrays["mean"][image], 8, shape.classes) * arrays["mean_scale"][image, None].to(torch.float32)
        if self.rank + self.extra > 0:
            logits = logits + decode_components(arrays, rows, stored, shape, self.rank, self.extra, self.bits)
        if self.per_view > 0:
            columns = arrays["columns"][image, view].to(torch.int64)
            logits = logits.scatter(1, columns, arrays["values"][image, view].to(torch.float32))
        return logits


def _column_dtype(shape: LabelShape) -> str:
    return "uint8" if shape.classes <= 256 else "uint16"


def component_bytes(shape: LabelShape, bits: int) -> int:
    """Bytes of one component of one image."""
    return row_bytes(shape.views, bits) + row_bytes(shape.classes, bits) + 2


def split(shape: LabelShape, budget: int, bits: int) -> tuple[int, int]:
    """Components of every image, and how many first images get one more; never beyond full rank."""
    rank, extra = divmod(budget // component_bytes(shape, bits), shape.images)
    full = min(shape.views, shape.classes)
    return (rank, extra) if rank < full else (full, 0)


def width_for(shape: LabelShape, budget: int, few: float) -> int:
    """Bits of components: 3 while the budget buys at most `few` for each image, then the fewest of 4, 6 and 8 of which
    it does not buy all."""
    n, full = shape.images, min(shape.views, shape.classes)
    if budget < n * min(few, full) * component_bytes(shape, 3):
        return 3
    return next((bits for bits in (4, 6) if budget < n * full * component_bytes(shape, bits)), 8)


def few(shape: LabelShape) -> float:
    """Components up to which rounding to 3 bits costs less than it buys, where the largest is the first."""
    return 1 + math.sqrt(min(shape.views, shape.classes))


def component_specs(shape: LabelShape, rank: int, extra: int, bits: int) -> Specs:
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
    matrices: torch.Tensor, weights: torch.Tensor, rows: IntArray, rank: int, extra: int, bits: int
) -> dict[str, Array]:
    """The components of matrices [b, K, c] of images `rows`."""
    most = rank + (extra > 0)
    if most == 0:
        return {}
    right = weighted_rows(factors(matrices * weights, most)[1], weights)
    right_codes, right_peak = quantise(right, bits)
    held = torch.from_numpy(np.arange(most) < rank + (rows < extra)[:, None]).to(matrices.device)
    # A component that an image does not hold is a zero row: what the image gets does not depend on its block.
    left = against(matrices, rounded(right_codes, right_peak, bits) * held[..., None], weights)
    left_codes, left_peak = quantise(left.mT, bits)
    scale = as_scale((left_peak * right_peak)[..., 0])
    return {
        "left": pack(left_codes[held], bits).cpu().numpy(),
        "right": pack(right_codes[held], bits).cpu().numpy(),
        "scale": scale[held].cpu().numpy(),
    }


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
    bits: int,
) -> torch.Tensor:
    """Row `stored[j]` of image `rows[j]`'s components' sum, f32 [m, c]."""
    device = arrays["scale"].device
    place = (rows * rank + np.minimum(rows, extra))[:, None] + np.arange(rank + (extra > 0))
    held = np.arange(rank + (extra > 0)) < rank + (rows < extra)[:, None]
    index = torch.from_numpy(np.where(held, place, 0)).to(device)
    scale = arrays["scale"][index].to(torch.float32) * torch.from_numpy(held).to(device)
    view = torch.from_numpy(stored).to(device)[:, None]
    left = unpack_at(arrays["left"][index], bits, view) * scale
    right = unpack(arrays["right"][index], bits, shape.classes)
    return torch.bmm(left[:, None, :], right)[:, 0]
