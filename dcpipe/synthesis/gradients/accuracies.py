"""The accuracy of networks trained on each subset: MDC's metric "accuracy difference" (Table 5, row 3).

Idea. A subset S[n] is as good as the network that learns from it. For each n = 1 .. N - 1 a new network is trained on
the training images of S[n] of all classes together, and evaluated on real images. The subset whose accuracy has changed
most since the last measurement is chosen (`subsets.py`).

The paper gives the name, E = 1000 epochs and the result (59.76 on average over sizes of CIFAR-10 at 10 images per
class, 58.37 with feature distances). It does not say how the networks are trained or which images they are evaluated
on, and the official code lacks the metric. Here they are trained with IDC's recipe for the networks of its loops (SGD,
lr 0.01, momentum 0.9, weight decay 5e-4, no schedule) and evaluated on real *training* images, because test images must
not influence any choice.

Cost: E (N - 1) epochs per measurement ("impractical", according to the paper), i.e. E c (N - 1) N / 2 images forward
and backward, times f^2 for grids. On CIFAR-10 with N = 10 and f = 2 that is 1.8 million, as many as the networks learn
from in nine outer loops of IDC. So it is measured once, at the end of an outer loop that measures, not in each of its
inner steps.

All random numbers are functions of (seed, loop, n) and independent of those that matching draws.

Paper: "Multisize Dataset Condensation", He, Xiao, Zhou and Tsang, ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dcpipe import networks
from dcpipe.random import Draw, Stream, matcher_seed, permutation, philox
from dcpipe.synthesis.gradients.choices import Choices, Nested
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.types import IntArray

_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class SubsetEvaluation:
    """How a subset is evaluated: a new `network` is trained for `epochs` as `teaching` specifies, and evaluated on at
    most `judged` real images per class."""

    network: str
    teaching: Teaching
    epochs: int
    judged: int

    @classmethod
    def of(cls, choices: Choices) -> SubsetEvaluation:
        """The evaluation for a run. Learning rate, momentum and weight decay are IDC's for every base method. Batch
        size, augmentation and CutMix are those that the base method trains its networks with (IDC's for idc and dream,
        none for dc and dm)."""
        own, nested = choices.teaching, choices.subsets or Nested()
        recipe = Teaching(batch=own.batch, strategy=own.strategy, cutmix=own.cutmix, mix_box=own.mix_box)
        return cls(choices.network, recipe, nested.epochs, nested.judged)


def seed_of(seed: int, loop: int, n: int) -> int:
    """The seed of all random numbers for S[n] in an outer loop; n = 0: for the choice of the evaluation images."""
    return int(philox(seed, loop, Draw.SUBSET_TEST, n)[..., 0])


def evaluation_rows(classes: list[IntArray], judged: int, seed: int, loop: int) -> IntArray:
    """Rows i64 [m] of the real images for evaluation in an outer loop: `judged` per class, or all of a smaller class.

    `classes`: the rows of each class.
    """
    own = seed_of(seed, loop, 0)
    orders = [permutation(own, Stream.SUBSET_TEST + label, len(rows)) for label, rows in enumerate(classes)]
    return np.concatenate([rows[order[:judged]] for rows, order in zip(classes, orders, strict=True)])


def accuracies(
    condensed: torch.Tensor,
    owners: IntArray,
    real: RealImages,
    evaluation: SubsetEvaluation,
    seed: int,
    loop: int,
    report: Callable[[int], None] = lambda n: None,
) -> torch.Tensor:
    """Accuracy per class, in 0..1, of a network trained on S[n], on the evaluation images: f64 [c, N], on the device.

    `condensed` f32 [c, d, 3, s, s]: normalised training images of each class. `owners` i64 [d] as in
    `subsets.prefix_weights`. `report(n)` is called before training on S[n]. The last column, that of the whole set, is
    0: the whole set is not a candidate, so no network is trained on it. The state of torch's global generator is not
    changed.
    """
    c, n_sets = len(condensed), int(owners.max()) + 1
    rows = evaluation_rows(real.classes, evaluation.judged, seed, loop)
    labels = torch.arange(c, device=condensed.device)
    shares = torch.zeros(c, n_sets, dtype=torch.float64, device=condensed.device)
    for n in range(1, n_sets):
        report(n)
        inside = torch.from_numpy(np.flatnonzero(owners < n)).to(condensed.device)
        images = condensed.detach()[:, inside].flatten(0, 1)
        network = _trained(images, labels.repeat_interleave(len(inside)), c, evaluation, seed_of(seed, loop, n))
        shares[:, n - 1] = _shares(network, real, rows, c)
    return shares


def _trained(images: torch.Tensor, labels: torch.Tensor, c: int, evaluation: SubsetEvaluation, seed: int) -> nn.Module:
    """A network trained on normalised images f32 [m, 3, s, s]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = networks.build(evaluation.network, c, images.shape[-1])
    network = network.to(images.device).train()
    optimizer = evaluation.teaching.optimizer(network)
    for epoch in range(evaluation.epochs):
        teach_epoch(evaluation.teaching, network, optimizer, images, labels, seed, epoch)
    return network.eval()


def teach_epoch(
    teaching: Teaching,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    seed: int,
    epoch: int,
) -> None:
    """One epoch over normalised images f32 [m, 3, s, s] in batches of nearly equal size, at most `teaching.batch`. The
    order and all other random numbers are functions of (seed, epoch)."""
    parts = -(-len(images) // teaching.batch)
    order = permutation(matcher_seed(seed), Stream.MATCHER_EPOCH + epoch, len(images))
    for part, some in enumerate(torch.from_numpy(order).to(images.device).tensor_split(parts)):
        teaching.step(network, optimizer, images[some], labels[some], seed, epoch * parts + part)


@torch.no_grad()
def _shares(network: nn.Module, real: RealImages, rows: IntArray, c: int) -> torch.Tensor:
    """Accuracy per class, in 0..1, of the network on the real images `rows`: f64 [c]."""
    device = real.pixels.device
    right = torch.zeros(c, dtype=torch.float64, device=device)
    counts = torch.zeros_like(right)
    for some in np.split(rows, range(_EVALUATION_BATCH, len(rows), _EVALUATION_BATCH)):
        truth = real.labels[torch.from_numpy(some).to(device)]
        hits = network(real.take(some)).argmax(1) == truth
        right.index_add_(0, truth, hits.double())  # sums of ones: exact in any order
        counts.index_add_(0, truth, torch.ones_like(hits, dtype=torch.float64))
    return right / counts
