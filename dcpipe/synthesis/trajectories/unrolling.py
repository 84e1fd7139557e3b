"""The loss of trajectory matching and its gradients, in memory for one step of the student.

A student starts at the weights theta_0 of an expert and takes N steps on condensed images:

    theta_{i+1} = theta_i - a g_i,    g_i = grad_theta CE(f(X_i; theta_i), y_i),
    L = |theta_N - target|^2 / |theta_0 - target|^2.

MTT differentiates through all N steps and keeps their graphs. The same gradient needs one graph at a time: with
lambda_N = 2 (theta_N - target) / |theta_0 - target|^2 and for i = N - 1 .. 0

    dL/dX_i = -a d(g_i . lambda_{i+1}) / dX_i,    dL/da += -lambda_{i+1} . g_i,
    lambda_i = lambda_{i+1} - a d(g_i . lambda_{i+1}) / dtheta_i,

where one backward pass of the number g_i . lambda_{i+1} gives all derivatives. It is exact, and keeps N vectors of
weights. TESLA (Cui et al., ICML 2023) is lambda_i = lambda_N for all i: it leaves out that theta_i depends on the
images of earlier steps, so it is the gradient for weights that are detached before every step. It equals MTT's for a
single step only. (TESLA's official code computes half of its formula for images, because `2 *` repeats a tuple of one
gradient. Here the formula is computed.)

Memory of `unrolled`: the graphs of N steps with second derivatives; of the others: one such graph and N vectors of
weights. Time: one more forward and first backward pass per step than `unrolled`.

Papers: "Dataset Distillation by Matching Training Trajectories", Cazenavette et al., CVPR 2022; "Scaling Up Dataset
Distillation to ImageNet-1K with Constant Memory", Cui et al., ICML 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from dcpipe.types import require

Through = Literal["exact", "unrolled", "tesla"]
Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


class Student:
    """The loss of a network as a function of a flat vector of its weights, in the order of `named_parameters`."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layout = {name: tuple(weight.shape) for name, weight in network.named_parameters()}

    def flat(self) -> torch.Tensor:
        """The weights of the network: [p]."""
        return torch.cat([weight.detach().reshape(-1) for weight in self.network.parameters()])

    @torch.no_grad()
    def set(self, weights: torch.Tensor) -> None:
        """Give the network the weights [p]."""
        for own, part in zip(self.network.parameters(), self._named(weights).values(), strict=True):
            own.copy_(part)  # not a view of `weights`: kernels round by how their input is aligned

    def loss(self, weights: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy with weights [p]; `labels` are classes i64 [m] or probabilities [m, c]."""
        return F.cross_entropy(torch.func.functional_call(self.network, self._named(weights), (images,)), labels)

    def _named(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weights [p] by the names and in the shapes of the network's."""
        parts = torch.split(weights, [math.prod(shape) for shape in self.layout.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.layout.items(), parts, strict=True)}


@dataclass(frozen=True, eq=False)
class Gradients:
    """The loss, its gradients w.r.t. `leaves` and the one w.r.t. the step size, both numbers as tensors []."""

    loss: torch.Tensor
    leaves: list[torch.Tensor]
    rate: torch.Tensor

    def plus(self, other: Gradients, weight: float) -> Gradients:
        """Those of the sum with `weight` times another loss of the same leaves."""
        leaves = [own + weight * its for own, its in zip(self.leaves, other.leaves, strict=True)]
        return Gradients(self.loss + weight * other.loss, leaves, self.rate + weight * other.rate)


def gradients(
    student: Student,
    start: torch.Tensor,
    target: torch.Tensor,
    batches: Batches,
    steps: int,
    rate: float,
    leaves: Sequence[torch.Tensor],
    through: Through = "exact",
) -> Gradients:
    """The loss of `steps` steps of size `rate` from `start` [p] to `target` [p], with its gradients.

    `batches(i)` gives the images and labels of step i as a differentiable function of `leaves`, tensors that require
    gradients; it may be called twice and must return the same. Raises `DataError` if start and target are equal.
    """
    apart = (start - target).square().sum()
    require(bool(apart > 0), "trajectories: the weights of an expert did not change; raise expert_lr")
    if through == "unrolled":
        return _unrolled(student, start, target, batches, steps, rate, leaves, apart)
    visited, weights = [], start.detach()
    for i in range(steps):
        visited.append(weights)
        with torch.no_grad():
            images, labels = batches(i)
        own = weights.clone().requires_grad_(True)
        [step] = torch.autograd.grad(student.loss(own, images, labels), own)
        weights = weights - rate * step
    loss, adjoint = (weights - target).square().sum() / apart, 2 * (weights - target) / apart
    sums, of_rate = [torch.zeros_like(leaf) for leaf in leaves], torch.zeros_like(loss)
    for i in reversed(range(steps)):
        own = visited.pop().clone().requires_grad_(True)
        [step] = torch.autograd.grad(student.loss(own, *batches(i)), own, create_graph=True)
        along = step @ adjoint
        wanted = (*leaves, own) if through == "exact" else tuple(leaves)
        found = torch.autograd.grad(along, wanted, allow_unused=True)
        of_rate = of_rate - along.detach()
        for total, part in zip(sums, found, strict=False):
            if part is not None:
                total.sub_(part, alpha=rate)
        if through == "exact" and found[-1] is not None:
            adjoint = adjoint - rate * found[-1]
    return Gradients(loss, sums, of_rate)


def _unrolled(
    student: Student,
    start: torch.Tensor,
    target: torch.Tensor,
    batches: Batches,
    steps: int,
    rate: float,
    leaves: Sequence[torch.Tensor],
    apart: torch.Tensor,
) -> Gradients:
    """By differentiating through all steps, as MTT's code does."""
    size = torch.tensor(rate, dtype=start.dtype, device=start.device, requires_grad=True)
    weights = start.detach().clone().requires_grad_(True)
    for i in range(steps):
        [step] = torch.autograd.grad(student.loss(weights, *batches(i)), weights, create_graph=True)
        weights = weights - size * step
    loss = (weights - target).square().sum() / apart
    *found, of_rate = torch.autograd.grad(loss, (*leaves, size), allow_unused=True)
    known = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
    return Gradients(loss.detach(), known, of_rate)
