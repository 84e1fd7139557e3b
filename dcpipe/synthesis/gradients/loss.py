"""The loss that a step of matching minimises, for all classes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dcpipe import networks
from dcpipe.random import Row, Stream, permutation
from dcpipe.synthesis.gradients.choices import Choices, Nested
from dcpipe.synthesis.gradients.class_gradients import ON_CPU, ClassGradients
from dcpipe.synthesis.gradients.distances import DISTANCES
from dcpipe.synthesis.gradients.subsets import METRICS, Measurements, prefix_weights, trainable_mask
from dcpipe.synthesis.gradients.teaching import uniform_draws
from dcpipe.types import DataError, IntArray, require
from dcpipe.views import multiformation, siamese

Colours = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class StepLoss:
    """The result of one step: `loss`, summed over classes; `grad`, its gradient w.r.t. the images f32 [c, n, 3, s, s];
    `moving`, 1 for pixels that may change and 0 for frozen ones; `distances` f64 [c, n] of all subsets, if they are
    measured."""

    loss: torch.Tensor
    grad: torch.Tensor
    moving: torch.Tensor
    distances: torch.Tensor | None


class Losses:
    """The loss of images [c, n, 3, s, s] in [0, 1] for a network. What is the same for the whole run is computed once.

    Raises `DataError` if there are subsets and a class has more training images than are matched in a step.
    """

    def __init__(self, choices: Choices, c: int, n: int, colours: Colours, seed: int, device: torch.device) -> None:
        self.choices, self.c, self.seed, self.device = choices, c, seed, device
        self.mean, self.std = colours
        nested = choices.subsets or Nested()
        self.weight, self.metric = nested.weight, nested.metric
        self.owners = multiformation.owners(n, choices.factor, choices.kind, choices.bound).numpy()
        # By cells, S[m] consists of the first m f^2 training images, whose cells belong to several stored ones.
        if choices.subsets is not None and choices.subsets.by == "cells":
            self.owners = np.arange(len(self.owners)) // choices.factor**2
        self.prefixes = prefix_weights(self.owners, torch.device("cpu"))
        require(
            choices.subsets is None or len(self.owners) <= choices.most,
            f"synthesis: {len(self.owners)} training images per class are more than the {choices.most} matched in a "
            f"step, so subsets would be incomplete; set most: {len(self.owners)} or more",
        )

    def compute(
        self,
        images: torch.Tensor,
        real: torch.Tensor,
        network: nn.Module,
        gradients: ClassGradients | None,
        step: int,
        sizes: IntArray,
        frozen: IntArray,
        measure: bool,
    ) -> StepLoss:
        """The loss against normalised real images f32 [c*b, 3, s, s], class-major. `sizes`, `frozen` i64 [c]: n* and
        the number of frozen images; `measure`: whether to compute the distances of all subsets as well."""
        # Classes do not depend on each other: fewer at a time need less memory, and fit into the caches of a CPU.
        few = max(1, ON_CPU // len(self.owners)) if self.device.type == "cpu" else self.c
        together, parts = self.choices.at_once or few, []
        for first in range(0, self.c, together):
            of = np.arange(first, min(first + together, self.c))
            of_real = real[first * len(real) // self.c : (first + len(of)) * len(real) // self.c]
            try:
                part = self._of_some_classes(
                    of, images[of], of_real, network, gradients, step, sizes[of], frozen[of], measure
                )
            except torch.OutOfMemoryError as error:
                remedy = f"set at_once below {len(of)}, for the same result with fewer classes in a pass"
                if len(of) == 1:
                    remedy = "at_once cannot be lower, so lower real_batch or most, or choose a smaller network"
                raise DataError(
                    f"synthesis: matching {len(of)} of {self.c} classes in one pass needs more memory than the GPU "
                    f"has free; {remedy}"
                ) from error
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        measured = [part.distances for part in parts if part.distances is not None]
        return StepLoss(
            torch.stack([part.loss for part in parts]).sum(),
            torch.cat([part.grad for part in parts]),
            torch.cat([part.moving.expand_as(part.grad) for part in parts]),
            torch.cat(measured) if measured else None,
        )

    def _of_some_classes(
        self,
        classes: IntArray,
        images: torch.Tensor,
        real: torch.Tensor,
        network: nn.Module,
        gradients: ClassGradients | None,
        step: int,
        sizes: IntArray,
        frozen: IntArray,
        measure: bool,
    ) -> StepLoss:
        """As `compute`, for some classes in one pass; the arguments are those of these classes."""
        images = images.detach().requires_grad_(True)
        made, moving = self._decode(images, frozen)
        if made.shape[1] > self.choices.most:
            drawn = permutation(self.seed, Stream.MATCHED + step, made.shape[1])[: self.choices.most]
            made = made[:, torch.from_numpy(drawn).to(self.device)]
        condensed = ((made - self.mean) / self.std).flatten(0, 1)
        if self.choices.strategy:
            alike = siamese.draw(self.choices.strategy, uniform_draws(self.seed, step, Row.CLASS + classes))
            real, condensed = siamese.apply(real, alike), siamese.apply(condensed, alike)
        if gradients is None:
            loss, distances = self._feature_loss(real, condensed, network, sizes, measure)
        else:
            loss, distances = self._gradient_loss(classes, real, condensed, gradients, sizes, measure)
        (grad,) = torch.autograd.grad(loss, images)
        return StepLoss(loss.detach(), grad, moving, distances)

    def _decode(self, images: torch.Tensor, frozen: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Training images [c, N, 3, s, s], frozen ones without gradient, and the mask of pixels that may change."""
        choices = self.choices
        made = multiformation.decode(images, choices.factor, choices.kind, choices.bound)
        if not frozen.any():
            return made, torch.ones((), device=self.device)
        loose = trainable_mask(frozen, self.owners, self.device)[:, :, None, None, None]
        # Each pixel belongs to one cell, so the pixels that a frozen training image depends on are frozen too.
        (still,) = torch.autograd.grad((made * (1 - loose)).sum(), images, retain_graph=True)
        return torch.where(loose > 0, made, made.detach()), (still == 0).float()

    def _gradient_loss(
        self,
        classes: IntArray,
        real: torch.Tensor,
        condensed: torch.Tensor,
        gradients: ClassGradients,
        sizes: IntArray,
        measure: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Distances of the gradients of whole classes and of their subsets, which share all passes."""
        c = len(classes)
        b, n = len(real) // c, len(condensed) // c
        labels = torch.from_numpy(classes).to(self.device)
        weights = [torch.full((c, n), 1 / n)]
        if sizes.any():
            weights.append(self.prefixes[torch.from_numpy(np.maximum(sizes, 1) - 1)].float())
        goal, seen = gradients(real, labels.repeat_interleave(b), torch.full((1, b), 1 / b), create_graph=False)
        mine = labels.repeat_interleave(n)
        own, features = gradients(condensed, mine, torch.stack(weights), create_graph=True)
        apart = DISTANCES[self.choices.distance]
        target = [g[0] for g in goal]
        loss = apart([g[0] for g in own], target).sum()
        if sizes.any():
            loss = loss + self.weight * apart([g[1] for g in own], target).sum()
        if not measure:
            return loss, None
        if self.metric == "feature":
            measured = self._measurements(seen.reshape(c, b, -1), features.reshape(c, n, -1))
        else:
            each, _ = gradients(condensed, mine, self.prefixes.float(), create_graph=False)
            apart_by_size = [apart([g[k] for g in each], target) for k in range(len(self.prefixes))]
            measured = Measurements(gradients=torch.stack(apart_by_size))
        return loss, METRICS[self.metric](measured)

    def _feature_loss(
        self, real: torch.Tensor, condensed: torch.Tensor, network: nn.Module, sizes: IntArray, measure: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Squared distances of the mean features of whole classes and of their subsets (DM)."""
        c = len(sizes)
        theirs = networks.forward(network, real)[0].reshape(c, len(real) // c, -1)
        own = networks.embed(network, condensed)[0].reshape(c, len(condensed) // c, -1)
        goal = theirs.mean(1)
        loss = (own.mean(1) - goal).square().sum()
        if sizes.any():
            rows = self.prefixes[torch.from_numpy(np.maximum(sizes, 1) - 1)].to(own)
            loss = loss + self.weight * (torch.einsum("cn,cnd->cd", rows, own) - goal).square().sum()
        return loss, METRICS["feature"](self._measurements(theirs, own)) if measure else None

    def _measurements(self, real: torch.Tensor, condensed: torch.Tensor) -> Measurements:
        return Measurements(real=real, synthetic=condensed, weights=self.prefixes.to(self.device))
