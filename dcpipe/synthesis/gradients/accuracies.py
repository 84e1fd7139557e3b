"""The accuracy of networks trained on each subset: MDC's metric "accuracy difference" (Table 5, row 3).

Idea. A subset S[n] is as good as the network that learns from it: for each n = 1 .. N - 1 a fresh network is trained on
the training images of S[n], of all classes together, and asked about real images. The subset whose accuracy has changed
most since the last measurement is chosen (`subsets.py`).

The paper gives the name, E = 1000 epochs and the result (59.76 on average over sizes of CIFAR-10 at 10 images a class,
58.37 with feature distances), and not how the networks learn nor which images judge them; the official code lacks the
metric. Here they learn by IDC's recipe for the networks of its loops (SGD, lr 0.01, momentum 0.9, weight decay 5e-4, no
schedule), and real *training* images judge: those for testing must not choose anything.

Cost: E (N - 1) epochs a measurement ("impractical", the paper says): E c (N - 1) N / 2 images forward and backward,
times f^2 in grids; on CIFAR-10 with N = 10, f = 2 that is 1.8 million, as many as the networks of nine outer loops of
IDC learn from. It is therefore done once, at the end of an outer loop that measures, not in each of its inner steps.

Everything drawn is a function of (seed, loop, n), and none of it is what matching draws.

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

_JUDGE_BATCH = 512


@dataclass(frozen=True)
class Exam:
    """How a subset is judged: a fresh `network` learns for `epochs` by `teaching`, and at most `judged` real images of
    each class are asked about."""

    network: str
    teaching: Teaching
    epochs: int
    judged: int

    @classmethod
    def of(cls, choices: Choices) -> Exam:
        """Of a run. IDC's learning rate, momentum and weight decay whatever the base; batch, augmentation and CutMix
        are those with which the base's own networks learn (IDC's for idc and dream, none for dc and dm)."""
        own, nested = choices.teaching, choices.subsets or Nested()
        recipe = Teaching(batch=own.batch, strategy=own.strategy, cutmix=own.cutmix)
        return cls(choices.network, recipe, nested.epochs, nested.judged)


def seed_of(seed: int, loop: int, n: int) -> int:
    """The seed of all that is drawn for S[n] in an outer loop; n = 0: for the images that judge."""
    return int(philox(seed, loop, Draw.SUBSET_TEST, n)[..., 0])


def judges(classes: list[IntArray], judged: int, seed: int, loop: int) -> IntArray:
    """Rows i64 [m] of the real images that judge in an outer loop: `judged` of each class, all of a smaller one.

    `classes`: the rows of each class.
    """
    own = seed_of(seed, loop, 0)
    orders = [permutation(own, Stream.SUBSET_TEST + label, len(rows)) for label, rows in enumerate(classes)]
    return np.concatenate([rows[order[:judged]] for rows, order in zip(classes, orders, strict=True)])


def accuracies(
    condensed: torch.Tensor,
    owners: IntArray,
    real: RealImages,
    exam: Exam,
    seed: int,
    loop: int,
    told: Callable[[int], None] = lambda n: None,
) -> torch.Tensor:
    """Share of each class's judging images that a network trained on S[n] gets right: f64 [c, N], on the device.

    `condensed` f32 [c, d, 3, s, s]: normalised training images of each class. `owners` i64 [d] as in
    `subsets.prefix_weights`. `told(n)` is called before S[n] is learned. The last column, the whole set's, is 0: it is
    no candidate, so that nothing is trained on it. Torch's global generator is left as it was found.
    """
    c, n_sets = len(condensed), int(owners.max()) + 1
    rows = judges(real.classes, exam.judged, seed, loop)
    labels = torch.arange(c, device=condensed.device)
    shares = torch.zeros(c, n_sets, dtype=torch.float64, device=condensed.device)
    for n in range(1, n_sets):
        told(n)
        inside = torch.from_numpy(np.flatnonzero(owners < n)).to(condensed.device)
        images = condensed.detach()[:, inside].flatten(0, 1)
        network = _trained(images, labels.repeat_interleave(len(inside)), c, exam, seed_of(seed, loop, n))
        shares[:, n - 1] = _shares(network, real, rows, c)
    return shares


def _trained(images: torch.Tensor, labels: torch.Tensor, c: int, exam: Exam, seed: int) -> nn.Module:
    """A network that has learned from normalised images f32 [m, 3, s, s]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = networks.build(exam.network, c, images.shape[-1])
    network = network.to(images.device).train()
    optimizer = exam.teaching.optimizer(network)
    for epoch in range(exam.epochs):
        teach_epoch(exam.teaching, network, optimizer, images, labels, seed, epoch)
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
    """One pass over normalised images f32 [m, 3, s, s] in batches of nearly equal size, at most `teaching.batch`, in an
    order of its own; all that is drawn is a function of (seed, epoch)."""
    parts = -(-len(images) // teaching.batch)
    order = permutation(matcher_seed(seed), Stream.MATCHER_EPOCH + epoch, len(images))
    for part, some in enumerate(torch.from_numpy(order).to(images.device).tensor_split(parts)):
        teaching.step(network, optimizer, images[some], labels[some], seed, epoch * parts + part)


@torch.no_grad()
def _shares(network: nn.Module, real: RealImages, rows: IntArray, c: int) -> torch.Tensor:
    """Share of the real images `rows` of each class that the network gets right: f64 [c]."""
    device = real.pixels.device
    right = torch.zeros(c, dtype=torch.float64, device=device)
    counts = torch.zeros_like(right)
    for some in np.split(rows, range(_JUDGE_BATCH, len(rows), _JUDGE_BATCH)):
        truth = real.labels[torch.from_numpy(some).to(device)]
        hits = network(real.take(some)).argmax(1) == truth
        right.index_add_(0, truth, hits.double())  # sums of ones: exact in any order
        counts.index_add_(0, truth, torch.ones_like(hits, dtype=torch.float64))
    return right / counts
