"""`field`: labels as a function of the view. What a view shows is known, so nothing needs to be stored for it.

Idea, ours: over random crops and flips of one image a teacher's logits vary smoothly with the crop, which is drawn
from a seed and costs no bytes. So the K x C labels of an image are Phi W and a remainder: Phi [K, p] are features of
the drawn views (`view_features`), W [p, C] is a ridge regression, the same few numbers however many views there are.
It also predicts views beyond K: with `fresh` every epoch shows a view never seen before, as a teacher online would.

Method, for each image:
* W = (Phi^T Phi + I)^-1 Phi^T M with a negligible penalty on the constant, by a Cholesky factor L of the p x p matrix.
* Form 1, `rank` 0: rows of W are stored, the constant's with `base_bits`, others with `bits`. They are rounded within
  the back substitution, last feature first: row j of W is z_j / L_jj, rounded; then z_i -= L_ji row_j for i < j, so
  that each row makes up for the rounding of those before it (Babai's nearest plane; GPTQ, Frantar et al., ICLR 2023,
  does the same to weights). With z = L^-1 Phi^T M. At 3 bits this halves what rounding costs.
* Form 2, `rank` r: reduced-rank regression (Izenman, 1975): W ~ A V with V the r first right singular vectors of
  Phi W, classes weighted as in `lowrank_int8`. V is rounded (first row `base_bits`, others `bits`), then A [p, r] is
  the least-squares one for it, with 8 bits. A component costs p + C numbers where an SVD's costs K + C.
* The remainder M - Phi W is cut to `residual` components (`components`), which do cost K numbers each.

Bytes of an image: ceil(C base_bits / 8) + 2 for the constant and ceil(C bits / 8) + 2 a further feature; in form 2
p more for every component. Rows, or components, that a budget buys go to all images evenly, the odd ones to the first
images; so budgets are met to one of them. Least: the constant alone at 3 bits; with `fresh`, all features are the
most, beyond which bytes stay unused. Which form, features, rank and bits a budget gets follows from a model of the
error: see `field_plan`. With C = 50 and K = 100, 200x leaves 48 bytes an image: a constant of 4 bits and one or two
components of 1.6.

Tried and left out: features turned to zoom, shifts and aspect, so that the first ones say more, change the KL of 2 to
6 features by less than 2 % either way. Five levels a code (2.4 bits) are 3 % better than three or seven at 100 to 150
bytes an image and nowhere else.

CutMix: with `cutmix_labels` stored labels are those of clean views, and decoding ignores the mix box. With
`cutmix_images` the label depends on another image as well, which no function of the view can know. Set option `mixed`:
then features tell the pasted share too, which helps, but most is left to the remainder; `lowrank_int8` is about as
good there, and `fresh` is not. Without the option the codec works as for clean views, with more error.

Cost: a Cholesky of at most 22 x 22 an image, and for the remainder one eigenproblem of side min(K, C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.compression.base import Array, Codec, Specs, require_budget
from dcpipe.compression.components import (
    against,
    class_weights,
    component_specs,
    decode_components,
    encode_components,
    weighted_rows,
)
from dcpipe.compression.field_plan import choose, smallest
from dcpipe.compression.quantise import (
    BaseWidth,
    Width,
    as_scale,
    coded,
    combine,
    pack,
    quantise,
    rounded,
    row_bytes,
    unpack,
)
from dcpipe.compression.svd import factors
from dcpipe.compression.view_features import features, most_features, pasted
from dcpipe.config.options import validated
from dcpipe.config.values import Count, NotNegative
from dcpipe.types import IntArray, LabelShape, require
from dcpipe.views import Views

CONSTANT_PENALTY = 1e-4  # against 1 for all others: labels that do not change are kept


def _together(*, features: int | None, mixed: bool, **others: Any) -> None:
    most = most_features(mixed)
    require(features is None or features <= most, f"features is {features}; give a number in 1..{most}")


@final
@dataclass(frozen=True)
class Field(Codec):
    """Labels from views. Arrays: `base` u8 [n, c] and `base_scale` fp16 [n], the constant's row or first component;
    if there are others, `basis` u8 [N, ...] and `basis_scale` fp16 [N], image by image; in form 2 `mixing`
    u8 [n rank + more, p]; and the remainder's, see `component_specs`."""

    features: int
    rank: int
    more: int
    bits: float
    residual: int
    extra: int
    residual_bits: float
    temperature: float
    mixed: bool
    fresh: bool
    base_bits: int = 8

    @classmethod
    @validated("codec 'field'", _together)
    def plan(
        cls,
        shape: LabelShape,
        budget: int,
        *,
        bits: Width | None = None,
        base_bits: BaseWidth | None = None,
        residual_bits: Width | None = None,
        features: Count | None = None,
        temperature: NotNegative = 20.0,
        mixed: bool = False,
        fresh: bool = False,
    ) -> Self:
        """What `field_plan` thinks best of all that fits.

        `bits`, `base_bits` (the constant's), `residual_bits` and `features` (p) fix what is otherwise chosen;
        `temperature` weighs the classes, 0 not at all; `mixed` says that the teacher saw mixed views; `fresh` stores
        no remainder and shows a new view every epoch. Raises `DataError` naming the smallest size when that does not
        fit.
        """
        most = most_features(mixed)
        least = smallest(shape, features or 1, bits, base_bits)
        require_budget("field", budget, least, shape, "choose a smaller ratio or fewer features")
        counts = range(1, most + 1) if features is None else range(features, features + 1)
        chosen = choose(
            shape,
            budget,
            counts=counts,
            bits=bits,
            base_bits=base_bits,
            residual_bits=residual_bits,
            mixed=mixed,
            fresh=fresh,
        )
        return cls(**asdict(chosen), temperature=float(temperature), mixed=mixed, fresh=fresh)

    @property
    def settings(self) -> dict[str, Any]:
        """Without `base_bits` of 8: such packs are, byte for byte, what they were before it."""
        return {name: value for name, value in super().settings.items() if (name, value) != ("base_bits", 8)}

    def specs(self, shape: LabelShape) -> Specs:
        n, rows = shape.images, self.rank or self.features
        base = (n, row_bytes(shape.classes, self.base_bits))
        specs: Specs = {"base": (base, "uint8"), "base_scale": ((n,), "float16")}
        count = n * (rows - 1) + self.more
        if count > 0:
            specs["basis"] = ((count, row_bytes(shape.classes, self.bits)), "uint8")
            specs["basis_scale"] = ((count,), "float16")
        if self.rank > 0:
            specs["mixing"] = ((n * self.rank + self.more, self.features), "uint8")
        return specs | component_specs(shape, self.residual, self.extra, self.residual_bits)

    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Raises `DataError` where option `mixed` says that views are mixed and none is."""
        require(
            not self.mixed or bool((pasted(views) > 0).any()),
            "codec 'field': option mixed is true but the teacher saw no mixed view; leave it out",
        )
        held = torch.from_numpy(self._held(rows)).to(logits.device)
        phi = self._phi(views, len(rows), logits.device)
        weights = class_weights(logits, self.temperature)
        if self.rank == 0:
            codes, scale = fit_rows(phi, logits, held, self.bits, self.base_bits)
            arrays = {}
        else:
            codes, scale, mixing = fit_components(phi, logits, weights, held, self.bits, self.base_bits)
            arrays = {"mixing": pack(mixing[held], 8).cpu().numpy()}
        arrays |= {"base": pack(codes[:, 0], self.base_bits).cpu().numpy(), "base_scale": scale[:, 0].cpu().numpy()}
        if held.shape[1] > 1:
            arrays["basis"] = pack(codes[:, 1:][held[:, 1:]], self.bits).cpu().numpy()
            arrays["basis_scale"] = scale[:, 1:][held[:, 1:]].cpu().numpy()
        if self.residual + self.extra > 0:  # then no image has more rows than another
            tensors = {name: torch.from_numpy(array).to(logits.device) for name, array in arrays.items()}
            rest = logits - self._fitted(tensors, np.arange(len(rows)), phi, shape)
            arrays |= encode_components(rest, weights, rows, self.residual, self.extra, self.residual_bits)
        return arrays

    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        logits = self._fitted(arrays, rows, self._phi(views, len(rows), arrays["base"].device), shape)[:, 0]
        if self.residual + self.extra > 0:
            rest = decode_components(arrays, rows, stored, shape, self.residual, self.extra, self.residual_bits)
            logits = logits + rest
        return logits

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """Every image once, in view `epoch mod K`, or with `fresh` in view `epoch`, never seen before."""
        view = epoch if self.fresh else epoch % shape.views
        return np.arange(shape.images), np.full(shape.images, view, dtype=np.int64)

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """All views; without a remainder those beyond K as well."""
        held: npt.NDArray[np.bool_] = (stored < shape.views) | (self.residual + self.extra == 0)
        return held

    def _held(self, rows: IntArray) -> npt.NDArray[np.bool_]:
        """Which rows of W, or components, the images have: bool [b, most]."""
        each = self.rank or self.features
        held: npt.NDArray[np.bool_] = np.arange(each + (self.more > 0)) < each + (rows < self.more)[:, None]
        return held

    def _phi(self, views: Views, images: int, device: torch.device) -> torch.Tensor:
        """Features of equally many views of some images, f32 [images, views of each, p]."""
        count = self.features + (self.rank == 0 and self.more > 0)
        phi = torch.from_numpy(features(views, count, self.mixed)).to(device, torch.float32)
        return phi.reshape(images, -1, count)

    def _fitted(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, phi: torch.Tensor, shape: LabelShape
    ) -> torch.Tensor:
        """Phi W of images `rows`: f32 [m, k, c] for their features [m, k, p]."""
        device = phi.device
        image = torch.from_numpy(rows).to(device)
        held = self._held(rows)
        each, most = self.rank or self.features, held.shape[1]
        weight = torch.from_numpy(held).to(device)
        if self.rank > 0:
            place = (rows * each + np.minimum(rows, self.more))[:, None] + np.arange(most)
            index = torch.from_numpy(np.where(held, place, 0)).to(device)
            phi = phi @ unpack(arrays["mixing"][index], 8, self.features).mT
        phi = phi * weight[:, None]
        scale = arrays["base_scale"][image].to(torch.float32)[:, None, None]
        fitted = combine(phi[..., :1] * scale, arrays["base"][image][:, None], self.base_bits, shape.classes)
        if most > 1:
            place = (rows * (each - 1) + np.minimum(rows, self.more))[:, None] + np.arange(most - 1)
            index = torch.from_numpy(np.where(held[:, 1:], place, 0)).to(device)
            scale = arrays["basis_scale"][index].to(torch.float32)[:, None]
            rows_of = arrays["basis"].index_select(0, index.flatten())
            basis = rows_of.reshape(*index.shape, rows_of.shape[1])
            fitted += combine(phi[..., 1:] * scale, basis, self.bits, shape.classes)
        return fitted


def solve(phi: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ridge regression's Cholesky factor L [b, p, p] and L^-1 Phi^T M [b, p, c], in float64."""
    phi = phi.to(torch.float64)
    penalty = torch.ones(phi.shape[-1], dtype=phi.dtype, device=phi.device)
    penalty[0] = CONSTANT_PENALTY
    lower = torch.linalg.cholesky(phi.mT @ phi + penalty.diag())
    return lower, torch.linalg.solve_triangular(lower, phi.mT @ logits.to(phi.dtype), upper=False)


def fit_rows(
    phi: torch.Tensor, logits: torch.Tensor, held: torch.Tensor, bits: float, base_bits: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Form 1: codes [b, p, c] and fp16 scales [b, p] of the rows of W, the first with `base_bits`.

    Images that do not hold the last row are fitted without it: L and z of fewer features are parts of those of more.
    """
    lower, z = solve(phi, logits)
    codes, scales = [], []
    for j in reversed(range(phi.shape[-1])):  # over features, not images
        width = bits if j else base_bits
        code, scale = coded((z[:, j] / lower[:, j, j, None]).to(torch.float32), width)
        row = rounded(code, scale.to(torch.float32), width) * held[:, j, None]
        z[:, :j] -= lower[:, j, :j, None] * row[:, None]
        codes.append(code)
        scales.append(scale[:, 0])
    return torch.stack(codes[::-1], dim=1), torch.stack(scales[::-1], dim=1)


def fit_components(
    phi: torch.Tensor,
    logits: torch.Tensor,
    weights: torch.Tensor,
    held: torch.Tensor,
    bits: float,
    base_bits: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Form 2: codes [b, r, c] of V, the first row's of `base_bits`; fp16 scales [b, r]; codes [b, r, p] of A."""
    rank = held.shape[1]
    lower, z = solve(phi, logits)
    regression = torch.linalg.solve_triangular(lower.mT, z, upper=True).to(torch.float32)
    right = weighted_rows(factors((phi @ regression) * weights, rank)[1], weights)
    codes, peaks = quantise(right[:, :1], base_bits)
    basis = rounded(codes, peaks, base_bits)
    if rank > 1:
        other, other_peaks = quantise(right[:, 1:], bits)
        basis = torch.cat([basis, rounded(other, other_peaks, bits)], dim=1)
        codes, peaks = torch.cat([codes, other], dim=1), torch.cat([peaks, other_peaks], dim=1)
    mixing, mixing_peaks = quantise(against(regression, basis * held[..., None], weights).mT, 8)
    return codes, as_scale((peaks * mixing_peaks)[..., 0]), mixing
