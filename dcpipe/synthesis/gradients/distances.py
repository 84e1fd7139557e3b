"""Distances between gradients, class by class.

Each takes two lists of weight gradients, [..., c, out, k] per layer with shapes that broadcast, and returns one number
per class, [..., c], summed over the layers. They are differentiable w.r.t. both.

* `mse`     sum of squared differences (IDC, MDC); not a mean, despite its name
* `l1`      sum of absolute differences (IDC on MNIST and ImageNet)
* `cosine`  sum of 1 - cos over output rows (DC, Zhao, Mopuri & Bilen, ICLR 2021)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch

from dcpipe.config.values import one_of
from dcpipe.types import require

Gradients = Sequence[torch.Tensor]
EPS = 1e-6  # added to the product of the norms, as in DC's code, so that a row of zeros has distance 1 from any other


def _summed(
    ours: Gradients, theirs: Gradients, apart: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    same = len(ours) == len(theirs) and all(a.shape[-3:] == b.shape[-3:] for a, b in zip(ours, theirs, strict=False))
    here, there = ([list(g.shape) for g in gradients] for gradients in (ours, theirs))
    require(
        same and len(ours) > 0,
        f"gradients of layers {here} and {there} cannot be compared; "
        "both need the same classes and layers, and at least one layer",
    )
    first, *rest = (apart(a, b) for a, b in zip(ours, theirs, strict=True))
    return sum(rest, start=first)


def mse(ours: Gradients, theirs: Gradients) -> torch.Tensor:
    """Sum of squared differences."""
    return _summed(ours, theirs, lambda a, b: (a - b).square().sum((-2, -1)))


def l1(ours: Gradients, theirs: Gradients) -> torch.Tensor:
    """Sum of absolute differences."""
    return _summed(ours, theirs, lambda a, b: (a - b).abs().sum((-2, -1)))


def cosine(ours: Gradients, theirs: Gradients) -> torch.Tensor:
    """Sum over rows of 1 - <a, b> / (|a| |b| + 1e-6)."""
    return _summed(ours, theirs, _rows_apart)


def _rows_apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    norms = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    apart: torch.Tensor = 1 - (a * b).sum(-1) / (norms + EPS)
    return apart.sum(-1)


DISTANCES: dict[str, Callable[[Gradients, Gradients], torch.Tensor]] = {
    "mse": mse,
    "l1": l1,
    "cosine": cosine,
}
Distance = Annotated[str, one_of(DISTANCES)]
