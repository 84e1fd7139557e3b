"""How a loss curves around a point: sharpness, the Hessian's largest eigenvalue and its norm, and lines through it.

A `Surface` is a loss as a function of some tensors, such as the weights of a network or the pixels of images. It is a
sum of parts, for instance of batches, each of which is computed anew whenever it is asked for, so that a whole training
set needs no more memory than its largest batch. Everything here asks for it at the tensors as they are, or moves them
for as long as it takes to ask; they are left as they were.

* **Within a radius** (Foret et al., ICLR 2021). max L(w + e) over |e| = rho is approached by e_1 = rho g(w) / |g(w)|,
  which is the step of sharpness-aware minimisation, and e_{k+1} = rho g(w + e_k) / |g(w + e_k)|. For a convex loss no
  step leads down.
* **Largest eigenvalue**, by power iteration: v <- Hv / |Hv|. It is the one of largest magnitude, given as v'Hv, so it
  is negative where the loss curves down more than up.
* **Frobenius norm** (Hutchinson): |H|_F^2 = E |Hv|^2 for probes v of independent random signs. One probe is exact for a
  diagonal H.
* **Directions** (Li et al., NeurIPS 2018): normal numbers, scaled filter by filter to the norms of the weights; biases
  and the weights of normalisation layers do not move.

Products Hv are derivatives of the gradient's product with v, and cost about four passes. Norms are summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Vector = list[torch.Tensor]  # one tensor for each of those that the loss is a function of


@dataclass(frozen=True)
class Surface:
    """A loss as a function of `point`, tensors that require gradients. `parts` gives scalars, whose sum is the loss at
    the point as it is; they are used one after another."""

    point: Vector
    parts: Callable[[], Iterable[torch.Tensor]]

    @torch.no_grad()
    def loss(self) -> float:
        """The loss at the point."""
        return math.fsum(float(part) for part in self.parts())

    def gradient(self) -> Vector:
        """The gradient at the point."""
        total = [torch.zeros_like(one) for one in self.point]
        for part in self.parts():
            _add(total, torch.autograd.grad(part, self.point, materialize_grads=True))
        return total

    def hessian_times(self, vector: Vector) -> Vector:
        """The product of the Hessian at the point with a vector."""
        total = [torch.zeros_like(one) for one in self.point]
        for part in self.parts():
            slopes = torch.autograd.grad(part, self.point, create_graph=True, materialize_grads=True)
            along = torch.stack([(slope * one).sum() for slope, one in zip(slopes, vector, strict=True)]).sum()
            if along.requires_grad:  # a part that is linear has no curvature
                _add(total, torch.autograd.grad(along, self.point, materialize_grads=True))
        return total

    @contextmanager
    def moved(self, step: Vector, length: float = 1.0) -> Iterator[None]:
        """Moves the point by `length` times a step, and puts it back."""
        own = [one.detach().clone() for one in self.point]
        try:
            with torch.no_grad():
                _add(self.point, step, length)
            yield
        finally:
            with torch.no_grad():
                for one, saved in zip(self.point, own, strict=True):
                    one.copy_(saved)


@torch.no_grad()
def _add(total: Vector, step: Sequence[torch.Tensor], length: float = 1.0) -> None:
    for one, other in zip(total, step, strict=True):
        one.add_(other, alpha=length)


def product(one: Vector, other: Vector) -> float:
    """The inner product of two vectors."""
    return math.fsum(float((a.double() * b.double()).sum()) for a, b in zip(one, other, strict=True))


def norm(vector: Vector) -> float:
    """The Euclidean norm of a vector."""
    return math.sqrt(product(vector, vector))


def cosine(one: Vector, other: Vector) -> float:
    """The cosine of the angle between two vectors; 0 if one of them is zero."""
    lengths = norm(one) * norm(other)
    return product(one, other) / lengths if lengths else 0.0


def scaled(vector: Vector, length: float) -> Vector:
    """A vector of this length in the same direction; zeros if the vector is zero."""
    own = norm(vector)
    return [one * (length / own if own else 0.0) for one in vector]


def highest_within(surface: Surface, radius: float, steps: int) -> list[float]:
    """The losses after 0, 1 ... `steps` steps of the search for the highest loss at a distance of `radius`: the loss at
    the point, then that of the step of SAM, and so on."""
    losses, step = [surface.loss()], [torch.zeros_like(one) for one in surface.point]
    for _ in range(steps):
        with surface.moved(step):
            slope = surface.gradient()
        step = scaled(slope, radius)
        with surface.moved(step):
            losses.append(surface.loss())
    return losses


def largest_eigenvalue(surface: Surface, steps: int, generator: torch.Generator) -> float:
    """The eigenvalue of largest magnitude of the Hessian, after `steps` products with it."""
    vector = scaled(_drawn(surface.point, generator), 1.0)
    found = 0.0
    for _ in range(steps):
        turned = surface.hessian_times(vector)
        found, vector = product(vector, turned), scaled(turned, 1.0)
    return found


def frobenius_norm(surface: Surface, probes: int, generator: torch.Generator) -> float:
    """An estimate of the Frobenius norm of the Hessian, from `probes` products with it."""
    squares = []
    for _ in range(probes):
        signs = [torch.where(one < 0, -1.0, 1.0).to(one.dtype) for one in _drawn(surface.point, generator)]
        turned = surface.hessian_times(signs)
        squares.append(product(turned, turned))
    return math.sqrt(math.fsum(squares) / probes)


def filter_normalised(point: Vector, generator: torch.Generator) -> Vector:
    """A random direction whose filters have the norms of those of `point`: the first dimension of a tensor counts
    filters, and tensors of one dimension do not move."""
    direction = []
    for one, drawn in zip(point, _drawn(point, generator), strict=True):
        if one.dim() < 2:
            direction.append(torch.zeros_like(drawn))
            continue
        rows = tuple(range(1, one.dim()))
        own, its = (torch.linalg.vector_norm(x.detach(), dim=rows, keepdim=True) for x in (one, drawn))
        direction.append(drawn * (own / its))
    return direction


def along(surface: Surface, direction: Vector, lengths: Sequence[float]) -> list[float]:
    """The losses at some multiples of a direction from the point."""
    losses = []
    for length in lengths:
        with surface.moved(direction, length):
            losses.append(surface.loss())
    return losses


def _drawn(point: Vector, generator: torch.Generator) -> Vector:
    """Standard normal numbers; they are drawn on the CPU, so that they are the same on every device."""
    return [torch.randn(one.shape, generator=generator).to(one) for one in point]
