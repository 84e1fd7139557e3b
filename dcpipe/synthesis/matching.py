"""Statistical matching: the distance between the statistics of a batch and those of the real images.

An observer measures a mean and a variance for every image and entry (a channel of a layer's input, or a patch of it).
Those of a group of images follow from the law of total variance, so one forward pass over the batch gives its global
and its class-conditional statistics. With S the batch, T the real images, and p(c) the share of class c in the batch,

    L = sum over layers of  w_l { alpha (|mean_S - mean_T| + |var_S - var_T|)
                                  + (1 - alpha) sum_c p(c) (|mean_S,c - mean_T,c| + |var_S,c - var_T,c|) }

with unsquared Euclidean norms over a layer's channels and, for convolutions, over its patches: EDC's soft
category-aware matching (Shao et al., NeurIPS 2024, Eq. 5; we read its alpha as the weight of both norms of Form (1),
because the text says that alpha = 1 is the plain matching of Eq. 2). alpha = 1 is G-VBSM's generalised matching and,
with observers that record only batch norms, SRe2L's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from dcpipe.synthesis.observers import Observer
from dcpipe.synthesis.statistics import Statistics
from dcpipe.types import require

Average = Literal["first", "zero"]


@dataclass(frozen=True)
class Matching:
    """Which statistics are compared, and how.

    `alpha` in [0, 1]: weight of the global statistics. `classes`: `each` compares every class of the batch with the
    statistics of this class (Eq. 5); `mixture`, as in the official code, compares one statistic of the batch with the
    mean of the statistics of its classes. `first`: weight of the first layer. `momentum`: of the running average that
    replaces the statistics of the batch, while the gradient is that of the batch itself (G-VBSM). `average`: it starts
    at the `first` measurement of these images, or at `zero` as in the official code, so that after k turns of an
    observer it still lacks a share momentum^k of its value: at 0.8 and EDC's 75 steps with 8 observers (9 turns), it
    never settles, and at first pushes variances up. (The official code also carries it over to the next images.)
    `drop`: probability that a convolution is left out of a step (G-VBSM). `norms`: the global statistics that batch
    norms are compared with, either their `running` ones or `measured` ones. `swapped`: exchange mean and variance in
    the class targets of patches, as the official code stores them.
    """

    alpha: float = 1.0
    classes: Literal["each", "mixture"] = "each"
    first: float = 10.0
    momentum: float = 0.0
    average: Average = "first"
    drop: float = 0.0
    norms: Literal["running", "measured"] = "running"
    swapped: bool = False


def pooled(weights: torch.Tensor, means: torch.Tensor, variances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of groups of images: weights [g, m] whose rows sum to 1, means and variances [m, e] of the
    images; two tensors [g, e].

    By the law of total variance, relative to the mean of the batch, so that no squared mean is larger than the
    resulting variance.
    """
    centre = means.detach().mean(0)
    moved = means - centre
    offset = weights @ moved
    return centre + offset, weights @ (variances + moved.square()) - offset.square()


class Matcher:
    """The loss of one observer for one batch of labelled images. What is the same in every step is computed once."""

    def __init__(
        self, observer: Observer, statistics: Statistics | None, labels: torch.Tensor, settings: Matching
    ) -> None:
        """`labels` i64 [m] of the batch; `statistics` may be None if they are not needed: see `needs_statistics`."""
        self.settings = settings
        device, m = labels.device, len(labels)
        classes, member, count = torch.unique(labels, return_inverse=True, return_counts=True)
        share = count.to(torch.float32) / m
        whole = torch.full((1, m), 1.0 / m, device=device)
        each = torch.zeros(len(classes), m, device=device)
        each[member, torch.arange(m, device=device)] = 1.0 / count[member].to(torch.float32)
        alpha = settings.alpha
        rows, targets, weights = [whole], [_global_target(observer, statistics, settings)], [alpha]
        if alpha < 1:
            assert statistics is not None
            own = _class_target(observer, statistics, classes, settings.swapped)
            if settings.classes == "each":
                rows.append(each)
                targets.append(own)
                weights += ((1 - alpha) * share).tolist()
            else:
                targets.append(torch.einsum("g,gse->se", share, own)[None])
                weights.append(1 - alpha)
        self.rows = torch.cat(rows)
        # The same weights by row: a single row that is compared with several targets has all of them.
        self.row_weights = torch.tensor(weights if len(rows) > 1 else [sum(weights)], device=device)
        self.targets = torch.cat(targets)  # [terms, 2, entries]; a single row of the batch is compared with all of them
        self.weights = torch.tensor(weights, device=device)
        lengths = [segment.stop - segment.start for segment in observer.segments]
        places = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        self.segment = places.to(device)
        layers = list(dict.fromkeys(segment.layer for segment in observer.segments))
        self.layer_weights = torch.tensor(
            [settings.first if segment.layer == layers[0] else 1.0 for segment in observer.segments], device=device
        )
        self.droppable = torch.tensor([segment.kind != "bn" for segment in observer.segments], device=device)
        self.layer = torch.tensor([layers.index(segment.layer) for segment in observer.segments], device=device)
        self.running: torch.Tensor | None = None

    def loss(self, means: torch.Tensor, variances: torch.Tensor, uniforms: torch.Tensor | None = None) -> torch.Tensor:
        """The loss for the per-image statistics f32 [m, entries] of the batch. `uniforms` in [0, 1), one per layer,
        determine which convolutions are left out."""
        batch = torch.stack(pooled(self.rows, means, variances), dim=1)  # [rows, 2, entries]
        if self.settings.momentum > 0:
            now, a = batch.detach(), self.settings.momentum
            if self.running is None:
                self.running = now if self.settings.average == "first" else (1 - a) * now
            else:
                self.running = a * self.running + (1 - a) * now
            batch = self.running + (batch - now)
        norms = self._norms(batch - self.targets)
        weights = self.layer_weights
        if uniforms is not None and self.settings.drop > 0:
            dropped = self.droppable & (uniforms[self.layer] < self.settings.drop)
            weights = weights.masked_fill(dropped, 0.0)
        total: torch.Tensor = torch.einsum("t,tks,s->", self.weights, norms, weights)
        return total

    def distance(
        self, means: torch.Tensor, variances: torch.Tensor, other_means: torch.Tensor, other_variances: torch.Tensor
    ) -> torch.Tensor:
        """The distance between the statistics of two versions of the batch, all f32 [m, entries] (EDC, Eq. 6): that of
        the loss, with the other version in place of the real images, and with equal weights of all layers."""
        apart = [pooled(self.rows, *its) for its in ((means, variances), (other_means, other_variances))]
        norms = self._norms(torch.stack(apart[0], dim=1) - torch.stack(apart[1], dim=1))
        total: torch.Tensor = torch.einsum("r,rks->", self.row_weights, norms)
        return total

    def _norms(self, differences: torch.Tensor) -> torch.Tensor:
        """Euclidean norms of [terms, 2, entries] over the entries of each segment."""
        squared = differences.square()
        sums = squared.new_zeros(*squared.shape[:2], len(self.layer_weights)).index_add(2, self.segment, squared)
        return sums.clamp_min(1e-30).sqrt()  # the clamp: no gradient, rather than an infinite one, at distance zero


def needs_statistics(settings: Matching, layers: str) -> bool:
    """Whether anything but the running statistics of batch norms is compared."""
    return settings.alpha < 1 or layers != "bn" or settings.norms == "measured"


def check_running(observer: Observer) -> None:
    """Raises `DataError` if an observer has layers without running statistics, so that there is nothing to match."""
    require(
        not bool(torch.stack(observer.running()).isnan().any()),
        f"synthesis: observer {observer.name!r} has layers without running statistics; leave it out, or "
        "choose a method that measures the real images (gvbsm, edc)",
    )


def _global_target(observer: Observer, statistics: Statistics | None, settings: Matching) -> torch.Tensor:
    """[1, 2, entries]: mean and variance of the real images."""
    running = torch.stack(observer.running())
    if statistics is None:
        check_running(observer)
        return running[None]
    measured = torch.stack([statistics.mean, statistics.variance])
    return (torch.where(running.isnan(), measured, running) if settings.norms == "running" else measured)[None]


def _class_target(observer: Observer, statistics: Statistics, classes: torch.Tensor, swapped: bool) -> torch.Tensor:
    """[classes, 2, entries]: mean and variance of each class's real images."""
    found = torch.stack([statistics.class_mean[classes], statistics.class_variance[classes]], dim=1)
    if swapped:
        for segment in observer.segments:
            if segment.kind == "patch":
                span = slice(segment.start, segment.stop)
                found[:, :, span] = found[:, [1, 0], span]
    return found
