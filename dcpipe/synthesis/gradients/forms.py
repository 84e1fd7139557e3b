"""What a step of matching moves: the pixels of images, or the components that they are made of.

A form holds the images f32 [c, n, 3, h, w] in [0, 1] of all classes, moves them against a gradient with momentum, and
gives the tensors of a checkpoint. `Pixels` is plain gradient descent. `Combined` trains mean M, bases B and
coefficients A of X = M + A B by the chain rule, dL/dM = sum_i G_i, dL/dB = A^T G and dL/dA = G B^T with G = dL/dX.

So that the rate of the base method keeps its meaning, the three parts take steps that move X about as far as the same
step in pixels would: that of M is divided by n, and that of B by s^2, the largest squared singular value of the class
at the start. With orthonormal bases, as slimming starts from, X then moves by P_1 G + (A A^T / s^2) G + G B^T B, and
none of the three is longer than G. Nothing is clipped during optimisation: values outside [0, 1] are clipped when the
components are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import torch

from dcpipe.synthesis.components import Components

Bounds = Literal["loop", "step"] | None  # when pixels are clipped
_PARTS = ("mean", "bases", "coefficients")


class Form(Protocol):
    """Images during optimisation."""

    @property
    def pixels(self) -> torch.Tensor:
        """The images f32 [c, n, 3, h, w]."""

    def clip(self) -> None:
        """Clip what has a range."""

    def step(
        self, grad: torch.Tensor, scale: torch.Tensor | float, moving: torch.Tensor, lr: float, momentum: float
    ) -> None:
        """Move against dL/dX. `scale`: of the gradient, per channel; `moving`: 0 for pixels that must not move."""

    def state(self) -> dict[str, torch.Tensor]:
        """The contents of a checkpoint."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a checkpoint."""


class Pixels:
    """Images whose pixels move, clipped to [0, 1] according to `bounds`: never, at the start and by `clip` ("loop"), or
    also after every step ("step")."""

    def __init__(self, pixels: torch.Tensor, bounds: Bounds) -> None:
        self.pixels, self.bounds = pixels, bounds
        self.velocity = torch.zeros_like(pixels)
        self.clip()

    def clip(self) -> None:
        if self.bounds is not None:
            self.pixels.clamp_(0, 1)

    def step(
        self, grad: torch.Tensor, scale: torch.Tensor | float, moving: torch.Tensor, lr: float, momentum: float
    ) -> None:
        self.velocity.mul_(momentum).add_(grad * scale)
        self.pixels.sub_(lr * self.velocity * moving)
        if self.bounds == "step":
            self.pixels.clamp_(0, 1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"pixels": self.pixels, "velocity": self.velocity}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        device = self.pixels.device
        self.pixels, self.velocity = state["pixels"].to(device), state["velocity"].to(device)


class Combined:
    """Images of `height` x `width` pixels whose components move; they have no frozen pixels."""

    def __init__(self, parts: Components, height: int, width: int, device: torch.device) -> None:
        self.height, self.width = height, width
        mean = parts.mean[:, None]
        found = zip(_PARTS, (mean, parts.bases, parts.coefficients), strict=True)
        self.parts = {name: torch.from_numpy(array).to(device, torch.float32) for name, array in found}
        self.velocity = {name: torch.zeros_like(part) for name, part in self.parts.items()}
        # Of singular values, while bases are orthonormal.
        squares = torch.from_numpy(parts.coefficients).square().sum(1)
        largest = squares.amax(1) if parts.rank else squares.new_ones(len(squares))
        self.reach = torch.where(largest > 0, largest, 1.0).to(device, torch.float32)[:, None, None]

    @property
    def pixels(self) -> torch.Tensor:
        flat = self.parts["mean"] + self.parts["coefficients"] @ self.parts["bases"]
        return flat.reshape(*flat.shape[:2], self.height, self.width, 3).permute(0, 1, 4, 2, 3)

    def clip(self) -> None:
        pass

    def step(
        self, grad: torch.Tensor, scale: torch.Tensor | float, moving: torch.Tensor, lr: float, momentum: float
    ) -> None:
        plain, scaled = (_flat(part) for part in (grad, grad * scale))
        # One factor for all channels: with several, a step of the coefficients might not lower the loss.
        even = float(scale.mean()) if isinstance(scale, torch.Tensor) else scale
        moves = {
            "mean": scaled.mean(1, keepdim=True),
            "bases": self.parts["coefficients"].mT @ scaled / self.reach,
            "coefficients": even * plain @ self.parts["bases"].mT,
        }
        for name, move in moves.items():
            self.velocity[name].mul_(momentum).add_(move)
            self.parts[name] = self.parts[name] - lr * self.velocity[name]

    def components(self) -> Components:
        """The components as they are now."""
        mean, bases, coefficients = (self.parts[name].double().cpu().numpy() for name in _PARTS)
        return Components(mean[:, 0], bases, coefficients)

    def state(self) -> dict[str, torch.Tensor]:
        return {**self.parts, **{f"velocity of {name}": of for name, of in self.velocity.items()}}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        device = self.reach.device
        self.parts = {name: state[name].to(device) for name in _PARTS}
        self.velocity = {name: state[f"velocity of {name}"].to(device) for name in _PARTS}


def _flat(images: torch.Tensor) -> torch.Tensor:
    """[c, n, 3, h, w] as values [c, n, d] in the order h, w, 3."""
    return images.permute(0, 1, 3, 4, 2).flatten(2)
