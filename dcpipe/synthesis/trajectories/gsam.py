"""Steps of SGD that look for flat minima: GSAM (Zhuang et al., ICLR 2022), in the adaptive form of ASAM (Kwon et al.,
ICML 2021). FTD (Du et al., CVPR 2023) trains the experts of trajectory matching so, and DATM uses them.

With weights w, the gradient g of a batch's loss at w, and products by element:

    e  = rho * w^2 g / ||w g||                the worst direction in a neighbourhood that scales with the weights
    gp = the gradient of the same batch's loss at w + e
    g_ = g - (g . gp / ||gp||^2) gp           the part of g that is orthogonal to gp
    w <- w - lr * (gp - alpha g_)

alpha = 0 is ASAM. All norms and products are over the weights of the whole network. A step takes two passes forward and
two backward. Where g or gp is zero, so is what would be divided by its norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gsam:
    """`rho`: size of the neighbourhood; `alpha`: weight of the orthogonal part. DATM's are 0.01 and 0.3."""

    rho: float
    alpha: float = 0.0

    def step(
        self, parameters: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]
    ) -> None:
        """One step of `optimizer` on `parameters`. `loss` gives the loss of one batch, the same at every call."""
        clean = torch.autograd.grad(loss(), parameters)
        with torch.no_grad():
            before = [weights.clone() for weights in parameters]
            scale = self.rho / _guarded(_norm([w * g for w, g in zip(parameters, clean, strict=True)]))
            for weights, gradient in zip(parameters, clean, strict=True):
                weights.add_(scale * weights.square() * gradient)
        perturbed = torch.autograd.grad(loss(), parameters)
        with torch.no_grad():
            share = _dot(clean, perturbed) / _guarded(_norm(perturbed).square())
            for weights, old, g, gp in zip(parameters, before, clean, perturbed, strict=True):
                weights.copy_(old)
                weights.grad = gp - self.alpha * (g - share * gp)
        optimizer.step()


def _dot(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> torch.Tensor:
    products = [(a * b).sum() for a, b in zip(one, other, strict=True)]
    return torch.stack(products).sum()


def _norm(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]).square().sum().sqrt()


def _guarded(norm: torch.Tensor) -> torch.Tensor:
    """What to divide by: a norm, or 1 where it is 0."""
    return torch.where(norm > 0, norm, torch.ones_like(norm))
