"""Further terms of the loss: flatness (EDC) and data densification (G-VBSM)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Direction = Literal["paper", "code"]
Flatness = Literal["logits", "statistics", "sam"]
_SPREAD = 4.0  # temperature of the target spectrum, as published


def flatness(
    logits: torch.Tensor, average: torch.Tensor, temperature: float, form: Direction = "paper"
) -> torch.Tensor:
    """The divergence between an observer's predictions for the images and for their running average (EDC, Eq. 7).

    `paper`: KL(softmax(f(X)/T) || softmax(f(X_EMA)/T)), mean over the batch; `code`: KL(X_EMA || X), also divided by
    the number of classes, as in the official code (which seldom uses this term). `logits`, `average` [m, c]; the latter
    has no gradient. The term is zero if both are equal.
    """
    now = F.log_softmax(logits / temperature, dim=1)
    then = F.log_softmax(average.detach() / temperature, dim=1)
    if form == "code":
        return F.kl_div(now, then, reduction="batchmean", log_target=True) / logits.shape[1]
    return F.kl_div(then, now, reduction="batchmean", log_target=True)


def class_groups(labels: torch.Tensor) -> list[torch.Tensor]:
    """The rows of each class with several images, i64 [classes, m] for each number m of images. They are the same in
    every step of a batch, and finding them waits for the device."""
    _, member, count = torch.unique(labels, return_inverse=True, return_counts=True)
    order = torch.argsort(member, stable=True)
    starts = torch.cumsum(count, 0) - count
    sizes = [size for size in torch.unique(count).tolist() if size > 1]
    return [order[starts[count == size][:, None] + torch.arange(size, device=labels.device)] for size in sizes]


def densification(images: torch.Tensor, groups: list[torch.Tensor]) -> torch.Tensor:
    """G-VBSM's data densification (Shao et al., CVPR 2024): spread the spectrum of each class's images.

    Let l be the eigenvalues of the Gram matrix of the images of a class, where images f32 [m, 3, s, s] are pooled to 32
    x 32 pixels. The term is the sum over classes of KL(softmax(l / 4), without gradient || softmax(l)). A class with
    one image contributes nothing. Eigenvalues of 32-pixel images are in the hundreds and thousands, so that both
    softmaxes are practically one-hot and the term is almost zero; it is implemented as published. `groups` are those of
    `class_groups`.
    """
    small = F.adaptive_avg_pool2d(images, min(32, images.shape[-1])).flatten(1)
    total = small.new_zeros(())
    for rows in groups:  # classes of equal size are computed together
        members = small[rows]
        values = torch.linalg.eigvalsh(members @ members.transpose(1, 2))
        target = F.softmax(values.detach() / _SPREAD, dim=1)
        total = total + F.kl_div(F.log_softmax(values, dim=1), target, reduction="sum")
    return total
