"""`field`: labels as a function of the view. The parameters of a view are known, so nothing is stored for it.

Idea, ours: over random crops and flips of one image, the logits of a teacher vary smoothly with the crop, which is
drawn from a seed and takes no bytes. So the K x C labels of an image are Phi W plus a residual: Phi [K, p] are features
of the views (`view_features`), and W [p, C] is a ridge regression, whose size does not depend on the number of views.
It also predicts views beyond K: with `fresh`, every epoch uses a new view, as with an online teacher.

Method, for each image:
* W = (Phi^T Phi + I)^-1 Phi^T M with a negligible penalty on the constant, by the Cholesky factor L of the p x p
  matrix.
* Form 1, `rank` 0: the rows of W are stored, that of the constant with `base_bits` and the others with `bits`. They are
  rounded during back substitution, last feature first, with z = L^-1 Phi^T M: row j of W is z_j / L_jj, rounded; then
  z_i -= L_ji row_j for i < j. So each row compensates for the rounding of the previous ones (Babai's nearest plane;
  GPTQ, Frantar et al., ICLR 2023, does the same with weights). At 3 bits this halves the rounding error.
* Form 2, `rank` r: reduced-rank regression (Izenman, 1975): W ~ A V, where V are the first r right singular vectors of
  Phi W, with classes weighted as in `lowrank_int8`. V is rounded (the first row with `base_bits`, others with `bits`),
  then A [p, r] is the least-squares solution for it, with 8 bits. A component has p + C numbers, whereas that of an SVD
  has K + C.
* The residual M - Phi W is encoded by `residual` components (`components`), which have K + C numbers each.

Bytes per image: ceil(C base_bits / 8) + 2 for the constant and ceil(C bits / 8) + 2 for each further feature; in form
2, p more for every component. The rows or components that fit a budget are distributed evenly over all images, and the
remainder goes to the first images, so a budget is used up to a single row or component. The minimum is the constant
alone at 3 bits. With `fresh` the maximum is all features; further bytes are not used. Form, features, rank and bits are
chosen by a model of the error: see `field_plan`. With C = 50 and K = 100, 200x leaves 48 bytes per image: a constant
with 4 bits and one or two components with 1.6 bits.

Tried but not used: transforming the features to zoom, shifts and aspect, so that the first ones are more informative,
changes the KL of 2 to 6 features by less than 2 % in either direction. Five levels per code (2.4 bits) are 3 % better
than three or seven at 100 to 150 bytes per image, but nowhere else.

CutMix: with `cutmix_labels`, stored labels are those of unmixed views, and decoding ignores the mix box. With
`cutmix_images`, the label also depends on another image, which no function of the view can predict. Set option `mixed`:
then features include the pasted share, which helps, but most of the error is left to the residual. `lowrank_int8` is
about as good in this case, and `fresh` is not suitable. Without the option the codec works as for unmixed views, with a
larger error.

Cost per image: a Cholesky factorisation of at most 22 x 22, and for the residual one eigenproblem of size min(K, C).
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
from dcpipe.views import Views, send

CONSTANT_PENALTY = 1e-4  # 1 for all others, so that labels that do not change are reproduced


def _together(*, features: int | None, mixed: bool, **others: Any) -> None:
    most = most_features(mixed)
    require(features is None or features <= most, f"features is {features}; give a number in 1..{most}")


@final
@dataclass(frozen=True)
class Field(Codec):
    """Labels computed from views. Arrays: `base` u8 [n, c] and `base_scale` fp16 [n], the row of the constant or the
    first component; if there are others, `basis` u8 [N, ...] and `basis_scale` fp16 [N], image by image; in form 2
    `mixing` u8 [n rank + more, p]; and those of the residual, see `component_specs`."""

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
        """The settings with the smallest modelled error (`field_plan`) among those that fit.

        `bits`, `base_bits` (of the constant), `residual_bits` and `features` (p) fix values that are otherwise chosen
        automatically. `temperature`: by which classes are weighted; 0 for no weighting. `mixed`: the teacher saw mixed
        views. `fresh`: no residual is stored, and every epoch uses a new view. Raises `DataError` with the smallest
        possible size if that does not fit.
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
        """The settings without `base_bits` if it is 8, so that such packs are byte-identical to older ones."""
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
        """Raises `DataError` if option `mixed` is set but no view is mixed."""
        require(
            not self.mixed or bool((pasted(views) > 0).any()),
            "codec 'field': option mixed is true but the teacher saw no mixed view; leave it out",
        )
        held = self._held(send(rows, logits.device))
        phi = send(self._phi(views), logits.device).reshape(len(rows), shape.views, -1)
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
        if self.residual + self.extra > 0:  # in this case all images have the same number of rows
            tensors = {name: send(array, logits.device) for name, array in arrays.items()}
            rest = logits - self._fitted(tensors, torch.arange(len(rows), device=logits.device), phi, shape)
            arrays |= encode_components(rest, weights, rows, self.residual, self.extra, self.residual_bits)
        return arrays

    def locate(self, rows: IntArray, stored: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Also the features of the views: `phi` f32 [m, p]."""
        return {"rows": rows, "stored": stored, "phi": self._phi(views)}

    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        rows, stored = located["rows"], located["stored"]
        logits = self._fitted(arrays, rows, located["phi"][:, None], shape)[:, 0]
        if self.residual + self.extra > 0:
            rest = decode_components(arrays, rows, stored, shape, self.residual, self.extra, self.residual_bits)
            logits = logits + rest
        return logits

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """Every image once, in view `epoch mod K`, or with `fresh` in the new view `epoch`."""
        view = epoch if self.fresh else epoch % shape.views
        return np.arange(shape.images), np.full(shape.images, view, dtype=np.int64)

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """All views; without a residual also those beyond K."""
        held: npt.NDArray[np.bool_] = (stored < shape.views) | (self.residual + self.extra == 0)
        return held

    def _held(self, rows: torch.Tensor) -> torch.Tensor:
        """Which rows of W, or components, the images have: bool [b, maximum]."""
        each = self.rank or self.features
        number = torch.arange(each + (self.more > 0), device=rows.device)
        return number < each + (rows < self.more)[:, None].long()

    def _phi(self, views: Views) -> npt.NDArray[np.float32]:
        """Features of m views, f32 [m, p]."""
        count = self.features + (self.rank == 0 and self.more > 0)
        return features(views, count, self.mixed).astype(np.float32)

    def _fitted(
        self, arrays: Mapping[str, torch.Tensor], rows: torch.Tensor, phi: torch.Tensor, shape: LabelShape
    ) -> torch.Tensor:
        """Phi W of images `rows`: f32 [m, k, c] for their features [m, k, p]."""
        held = self._held(rows)
        each, most = self.rank or self.features, held.shape[1]
        before, number = rows.clamp_max(self.more), torch.arange(most, device=rows.device)
        if self.rank > 0:
            index = torch.where(held, (rows * each + before)[:, None] + number, 0)
            phi = phi @ unpack(arrays["mixing"][index], 8, self.features).mT
        phi = phi * held[:, None]
        scale = arrays["base_scale"][rows].to(torch.float32)[:, None, None]
        fitted = combine(phi[..., :1] * scale, arrays["base"][rows][:, None], self.base_bits, shape.classes)
        if most > 1:
            index = torch.where(held[:, 1:], (rows * (each - 1) + before)[:, None] + number[:-1], 0)
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

    Images that do not have the last row are fitted without it: L and z of fewer features are parts of those of more.
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
