"""Whether R_C told which images' labels compress well: its rank correlation with the error of the pack.

Selection prefers images with a low R_C (SCORE, Eq. 7) because their labels should compress well. Once they are packed,
this can be checked: Spearman's rank correlation of R_C with the error of each image. Near 1, R_C did what it is for;
near 0 or below, it followed something else. Only images that were selected are compared, so the range of R_C is
narrower than that of all candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dcpipe.compression.fidelity import Fidelity, fidelity
from dcpipe.types import Features, FloatArray, LabelPack, SoftLabels, require

FEWEST = 10  # images; the correlation of fewer is mostly chance
MOST = 2000  # images that are compared: decoding the labels of all of a large set would take minutes


def foresight(label_rate: FloatArray, fidelity: Fidelity) -> dict[str, float]:
    """Spearman's correlation of R_C f64 [n] with `relative_error` and each `kl_tT` of the images, in -1..1.

    Images whose R_C or error is not finite are left out. Without errors or rates that differ, or with fewer than
    `FEWEST` images, there is no correlation, and it is left out. Raises `DataError` for another number of rates.
    """
    require(
        label_rate.shape == fidelity.views.shape,
        f"foresight: {len(label_rate)} label rates for a pack of {len(fidelity.views)} images; give one for each image",
    )
    from scipy.stats import spearmanr  # only where it is used: it takes long to import

    held = np.where(fidelity.views > 0, fidelity.views, np.nan)
    errors: Mapping[str, FloatArray] = {
        "relative_error": np.sqrt(fidelity.error / np.where(fidelity.size > 0, fidelity.size, np.nan)),
        **{f"kl_t{t:g}": sums / held for t, sums in fidelity.kl.items()},
    }
    found = {}
    for name, error in errors.items():
        known = np.isfinite(label_rate) & np.isfinite(error)
        if known.sum() >= FEWEST and np.ptp(label_rate[known]) > 0 and np.ptp(error[known]) > 0:
            found[name] = float(spearmanr(label_rate[known], error[known]).statistic)
    return found


def foresight_of(
    features: Features, pack: LabelPack, labels: SoftLabels, temperatures: Sequence[float], device: torch.device
) -> dict[str, float]:
    """`foresight` of the first images of a pack (at most `MOST`; images are in rounds of one per class) and the labels
    it was made of; empty if some of these images have no features."""
    ids = labels.ids[:MOST]
    if not np.isin(ids, features.ids).all():
        return {}
    rates = features.label_rate[features.rows_of(ids)]
    return foresight(rates, fidelity(pack, labels, temperatures, device, first=len(ids)))


def describe(correlations: Mapping[str, float], images: int) -> str:
    """One sentence about correlations that were found."""
    values = ", ".join(f"{value:+.2f} with {_NAMES.get(name, name)}" for name, value in correlations.items())
    return (
        f"Spearman correlation of R_C with the error of {images:,} images: "
        f"{values.replace('kl_t', 'KL at T = ')}; near +1, R_C tells which labels compress well"
    )


_NAMES = {"relative_error": "the relative error of logits"}
