"""The label rate R_C: how many nats the soft labels of an image cost, known before any image is chosen (SCORE, Eq. 7).

Idea. A teacher sees an image in many views, and a condensed set must store the K x C matrix Y of its soft labels. The
coding rate R_C(Y) = 1/2 logdet(I + a Y Y^T) is a smooth substitute for the rank of Y, so the soft labels of an image
with a low rate compress well. Selection subtracts beta R_C from the gain of an image.

Formula. The paper prints a = d / (n eps^2) for a d x n matrix and writes Y as K x C, which can be read in two ways:

* `literal`  d = K rows and n = C columns: a = K / (C eps2). If the rate is measured on v views, fewer than the K that
  will be stored, then Y^T Y is a sample of its sum over K views. So a is scaled by K / v, and the rate is an estimate
  of the rate of all K views.
* `sample`   views are the samples, as in R_I: a = C / (v eps2). The rate depends only on the mean of y y^T and needs
  no rescaling.

Y is the softmax at a temperature (`tempered`, what students are trained on), the plain softmax (`probabilities`) or
the logits. By default rows are not normalised to unit length: softmax rows of a confident teacher are longer and count
more. With `centre`, the mean label of the image over its views is subtracted first, so that R_C measures only how
labels vary from view to view. With `unit_rows`, rows are then scaled to unit length, as the features in R_I are, so
that only their directions count; rows of zeros, also of round-off, are zero.

What it measures. SCORE does not print the input. With softmax rows that are not centred, R_C mostly measures the length
of the rows, that is, how confident the teacher is, and minus beta R_C prefers images of which the teacher is unsure. We
measured 100 images of Tiny-ImageNet (50 classes, 50 views, own teacher): the Spearman correlation of R_C with the error
that rank 2 leaves in the labels of an image, and with the teacher's confidence.

    R_C of                             relative error of logits   KL at T = 4   confidence   std of R_C in nats
    softmax at T = 20 (the presets)              -.33                .30           .59            .0003
    probabilities                                -.51                .00           .90            .40
    probabilities, `unit_rows`                    .80                .64          -.84           1.35
    softmax at T = 20, `centre`                   .67                .88          -.25            .053
    logits                                        .65                .94          -.18            5.1

At T = 20 the rows are nearly uniform and all images have nearly the same R_C. Its spread of 3e-4 nats times beta is far
below the other terms of Eq. 4: on CIFAR-10 (alpha 5) a random R_C of this spread changes 1 of 100 picks at beta 0.1 and
32 at beta 1. So choose `centre`, or the input `logits`, if R_C shall select images whose labels compress well. Their
spreads are 200 and 20,000 times larger, so beta has to be chosen anew. The stage `features` prints the spread, and the
stage `compression` the correlation of R_C with the error of the pack, if the images are real ones.

Cost. logdet(I + a Y Y^T) = logdet(I + a Y^T Y), so the smaller side s = min(v, C) is factorised. This takes
n s^2 max(v, C) + n s^3 / 3 multiply-adds for n images, in one batched Cholesky, which unlike LU cannot lose the sign.

Paper: "SCORE: Soft Label Compression-Centric Dataset Condensation via Coding Rate Optimization", Sec. 4, Eq. 7;
eps is not printed there: eps2 = 0.5 follows MCR2 (Yu et al., NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from dcpipe.types import require

_INPUTS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "tempered": lambda logits, temperature: torch.softmax(logits / temperature, dim=-1),
    "probabilities": lambda logits, temperature: torch.softmax(logits, dim=-1),
    "logits": lambda logits, temperature: logits,
}
_COEFFICIENTS: dict[str, Callable[[int, int, int], float]] = {
    "literal": lambda views, classes, stored: stored / classes * (stored / views),
    "sample": lambda views, classes, stored: classes / views,
}

# What centring leaves of labels that do not vary is round-off, shorter than this share of the longest row.
_NOTHING = 1e-9


def label_rate(
    logits: torch.Tensor,
    *,
    input: Literal["tempered", "probabilities", "logits"] = "tempered",
    temperature: float = 20.0,
    coefficient: Literal["literal", "sample"] = "literal",
    stored_views: int = 300,
    eps2: float = 0.5,
    centre: bool = False,
    unit_rows: bool = False,
) -> torch.Tensor:
    """R_C of each image: logits [n, v, c] of v views, in any float type -> f64 [n] in nats, on the same device.

    `stored_views` is K, the number of views whose labels will be stored (used by `literal` only); `eps2` is epsilon
    squared. `centre`: the mean over views is subtracted from the labels of each image. `unit_rows`: the label of each
    view is scaled to unit length, after centring. The computation is in f64 and holds n v c numbers in memory, so pass
    one batch of images at a time. Raises `DataError` for another shape, for logits that are not finite and for options
    outside their range.
    """
    require(
        logits.ndim == 3 and min(logits.shape[1:]) > 0,
        f"label_rate: logits must be [n, v, c], got {list(logits.shape)}; stack the views on axis 1",
    )
    require(input in _INPUTS, f"label_rate.input is {input!r}; choose one of {', '.join(_INPUTS)}")
    require(
        coefficient in _COEFFICIENTS,
        f"label_rate.coefficient is {coefficient!r}; choose one of {', '.join(_COEFFICIENTS)}",
    )
    for name, value in (("temperature", temperature), ("stored_views", stored_views), ("eps2", eps2)):
        require(value > 0, f"label_rate.{name} is {value}; give a number above 0")
    require(bool(torch.isfinite(logits).all()), "label_rate: logits contain NaN or infinity; check the teacher")
    _, views, classes = logits.shape
    labels = _INPUTS[input](logits.double(), temperature)
    longest = torch.linalg.vector_norm(labels, dim=-1, keepdim=True).amax(dim=1, keepdim=True)
    if centre:
        labels = labels - labels.mean(dim=1, keepdim=True)
    if unit_rows:
        norms = torch.linalg.vector_norm(labels, dim=-1, keepdim=True)
        labels = torch.where(norms > _NOTHING * longest, labels / norms, 0.0)
    if classes < views:
        labels = labels.mT
    gram = labels @ labels.mT * (_COEFFICIENTS[coefficient](views, classes, stored_views) / eps2)
    factor: torch.Tensor = torch.linalg.cholesky(gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
