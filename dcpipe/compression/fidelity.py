"""How accurately a pack reproduces the labels, without training a student.

For every image and the views that the pack contains, the teacher's logits z are compared with the decoded ones y:

* relative logit error |y - z| / |z|, after subtracting the mean over classes, which no softmax depends on;
* KL(softmax(z / T) || softmax(y / T)) T^2, the distillation loss of a student with logits y (Hinton et al., 2015); the
  factor T^2 makes temperatures comparable;
* top-1 agreement.

They are exact also for codecs that drop some views: `held` reports how many views were compared. A codec that gives
some classes zero probability (`topk` with `marginal_renorm`) has infinite error and divergence, which are reported as
such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe import views
from dcpipe.compression import CODECS, rebuild
from dcpipe.types import FloatArray, LabelPack, SoftLabels, require

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Sums over the stored views of each image, f64 [n]: the number of `views`, squared `error` and `size` of the
    logits, `kl` by temperature, and the number of views that `agreed` in top-1."""

    views: FloatArray
    error: FloatArray
    size: FloatArray
    kl: Mapping[float, FloatArray]
    agreed: FloatArray

    def over(self) -> dict[str, float]:
        """Means over all stored views: `held` views per image, `relative_error`, `kl_tT` for each temperature T, and
        `agreement` in 0..1."""
        held = float(self.views.sum())
        size = float(self.size.sum())
        return {
            "held": held / len(self.views),
            "relative_error": float(np.sqrt(self.error.sum() / size)) if size > 0 else 0.0,
            **{f"kl_t{t:g}": float(sums.sum()) / held for t, sums in self.kl.items()},
            "agreement": float(self.agreed.sum()) / held,
        }


@torch.no_grad()
def fidelity(
    pack: LabelPack, labels: SoftLabels, temperatures: Sequence[float], device: torch.device, first: int | None = None
) -> Fidelity:
    """Compare a pack with the labels that it was made of, one block of images at a time: all of them, or those of the
    `first` images.

    Raises `DataError` if the pack has other images or another number of views or classes.
    """
    shape = pack.shape
    require(
        labels.logits.shape == (shape.images, shape.views, shape.classes) and np.array_equal(labels.ids, pack.ids),
        f"label pack of {shape.images} images x {shape.views} views x {shape.classes} classes was not made of labels "
        f"{list(labels.logits.shape)}: their ids or sizes differ; compare a pack with what it was made of",
    )
    codec = rebuild(pack, CODECS)
    arrays = {name: torch.from_numpy(np.ascontiguousarray(array[:])).to(device) for name, array in pack.arrays.items()}
    drawn = views.views_of(labels.policy.labelling, labels.ids)
    each = max(1, BLOCK_BYTES // (4 * shape.views * shape.classes))
    sums: dict[str, list[torch.Tensor]] = {}
    images = min(shape.images, first or shape.images)
    for start in range(0, images, each):
        block = np.arange(start, min(start + each, images))
        rows, stored = np.repeat(block, shape.views), np.tile(np.arange(shape.views), len(block))
        held = codec.holds(rows, stored, shape)
        truth = torch.from_numpy(np.asarray(labels.logits[block[0] : block[-1] + 1])).to(device).flatten(0, 1)
        truth, rows, stored = truth[torch.from_numpy(held).to(device)].float(), rows[held], stored[held]
        decoded = codec.decode(arrays, rows, stored, shape, drawn.parameters(rows, stored))
        place = torch.from_numpy(rows - start).to(device)
        for name, values in _of_labels(truth, decoded, temperatures).items():
            total = torch.zeros(len(block), dtype=torch.float64, device=device)
            sums.setdefault(name, []).append(total.index_add(0, place, values.to(torch.float64)))
    whole = {name: torch.cat(blocks).cpu().numpy() for name, blocks in sums.items()}
    kl = {t: whole[f"kl {t}"] for t in temperatures}
    return Fidelity(whole["views"], whole["error"], whole["size"], kl, whole["agreed"])


def _of_labels(z: torch.Tensor, y: torch.Tensor, temperatures: Sequence[float]) -> dict[str, torch.Tensor]:
    """The terms of the sums for each of m labels."""
    centred = z - z.mean(-1, keepdim=True)
    sums = {
        "views": torch.ones(len(z), device=z.device),
        "error": (y - y.mean(-1, keepdim=True) - centred).square().sum(-1).nan_to_num(nan=torch.inf),  # inf - inf
        "size": centred.square().sum(-1),
        "agreed": (z.argmax(-1) == y.argmax(-1)).float(),
    }
    for t in temperatures:
        decoded, stored = F.log_softmax(y / t, dim=-1), F.log_softmax(z / t, dim=-1)
        terms = (stored.exp() * (stored - decoded)).nan_to_num(nan=0.0, posinf=torch.inf)  # 0 times inf counts as 0
        sums[f"kl {t}"] = t * t * terms.sum(-1).clamp_min(0)  # rounding may give less than 0
    return sums
