"""Training of the network in a gradient matching run: SGD steps on real or on condensed images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dcpipe.random import Draw, Stream, permutation, philox, uniform
from dcpipe.types import FloatArray, MixBox
from dcpipe.views import siamese
from dcpipe.views.boxes import cutmix_box, even_pixels, in_pixels, share_outside
from dcpipe.views.crop import paste_box
from dcpipe.views.device import send


@dataclass(frozen=True)
class Teaching:
    """SGD of the network: `lr`, `momentum`, `decay`, batches of `batch` images. `strategy` of augmentation ("" for
    none), drawn for each image; `cutmix`: probability that a batch is mixed (Yun et al., ICCV 2019; lambda ~ Beta(1,
    1)); `mix_box`: how its box becomes pixels (`dcpipe.views.boxes`), `even` in IDC's and MDC's code."""

    lr: float = 0.01
    momentum: float = 0.9
    decay: float = 5e-4
    batch: int = 64
    strategy: str = ""
    cutmix: float = 0.0
    mix_box: MixBox = "rounded"

    def optimizer(self, network: nn.Module) -> torch.optim.SGD:
        """The optimiser for a new network."""
        return torch.optim.SGD(network.parameters(), self.lr, momentum=self.momentum, weight_decay=self.decay)

    def step(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        images: torch.Tensor,
        labels: torch.Tensor,
        seed: int,
        step: int,
    ) -> None:
        """One SGD step on normalised images f32 [m, 3, s, s]; all random numbers are functions of (seed, step)."""
        loss = self.loss(network, images, labels, seed, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def loss(
        self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int, step: int
    ) -> torch.Tensor:
        """The loss of one step, augmented; the same at every call with the same arguments and weights."""
        if self.strategy:
            images = siamese.apply(
                images, siamese.draw(self.strategy, uniform_draws(seed, step, np.arange(len(images))))
            )
        first, *box = uniform_draws(seed, step, np.zeros(1, dtype=np.int64))(Draw.CUTMIX)[0]
        if first < self.cutmix:
            order = permutation(seed, Stream.CUTMIX_PARTNERS + step, len(images))
            images, partner, kept = cutmix(images, np.array(box), order, self.mix_box)
            logits = network(images)
            return kept * F.cross_entropy(logits, labels) + (1 - kept) * F.cross_entropy(logits, labels[partner])
        return F.cross_entropy(network(images), labels)


def uniform_draws(
    seed: int, step: int, rows: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Callable[[int], FloatArray]:
    """A function from a draw number to random numbers f64 [m, 4] in [0, 1), which depend on (seed, step, row)."""

    def drawn(draw: int) -> FloatArray:
        return uniform(philox(seed, step, draw, rows))

    return drawn


def cutmix(
    images: torch.Tensor,
    box: FloatArray,
    order: np.ndarray[tuple[int], np.dtype[np.int64]],
    mix_box: MixBox = "rounded",
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """CutMix of a batch: in every image, the same box is replaced by that of its partner. Returns the mixed images, the
    partners i64 [m] and the share of remaining pixels. `box`: three numbers in [0, 1) for the area and position of the
    box."""
    size = images.shape[-1]  # the area is 1 - lambda, which is uniform like lambda
    bounds = even_pixels(box[None], size) if mix_box == "even" else in_pixels(cutmix_box(*box[:, None]), size)
    partner = send(order, images.device)
    mixed = paste_box(images, images[partner], send(bounds, images.device))
    return mixed, partner, float(share_outside(bounds, size)[0])
