"""MDC on matched trajectories: the loss of a smaller set is added to that of the whole set. This is our construction.

MDC (He et al., ICLR 2024) is defined for matched gradients and features, and neither its paper nor its code joins it
with MTT. Here the loss of an iteration is L(S[N]) + weight L(S[n*]): a second student takes the same number of steps of
the same size from the same weights of the expert towards the same target, on images of the subset alone. An iteration
is what MDC calls an outer loop. Where it measures, distances of features (`gradients/subsets.py`) are those of the
network with the weights that the students start from, to the mean features of all real images of a class.
"""

from __future__ import annotations

import numpy as np
import torch

from dcpipe import networks
from dcpipe.synthesis.base import Progress
from dcpipe.synthesis.gradients.choices import Nested
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.subsets import Measurements, Subsets, feature_distances, prefix_weights
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import ImageSet, IntArray

_BATCH = 512  # real images whose features are computed together


class Nest:
    """The subset and the frozen images in the course of a run; `subsets` is the state that a checkpoint holds."""

    def __init__(self, options: Nested, start: ImageSet) -> None:
        self.weight, self.ranks, self.labels = options.weight, start.ranks, start.labels
        self.subsets = Subsets.begin(options.rules(start.most_per_class, len(start.classes)))
        # Rows i64 [c, N] of the images of each class, in their order.
        self.order = np.stack([np.flatnonzero(start.labels == label) for label in range(len(start.classes))])

    def enter(self, iteration: int) -> None:
        """Note the state of an iteration; to be called for all of them in order."""
        self.subsets = self.subsets.entered(iteration)

    def rows(self, iteration: int) -> IntArray | None:
        """Rows of the images of the subset, or None if the loss has no term for one."""
        inside = np.flatnonzero(self.ranks < self.subsets.sizes(iteration)[self.labels])
        return inside if len(inside) else None

    def moving(self, iteration: int) -> torch.Tensor:
        """Whether each image may change: bool [n], false for frozen ones."""
        return torch.from_numpy(self.ranks >= self.subsets.frozen(iteration)[self.labels])

    @torch.no_grad()
    def measure(
        self, iteration: int, student: Student, weights: torch.Tensor, pixels: torch.Tensor, real: RealImages
    ) -> None:
        """Choose the next subset, if this iteration measures. `weights` [p]: of the network whose features are
        compared; `pixels` f32 [n, 3, s, s]: the images, normalised."""
        if not self.subsets.rules.measures(iteration):
            return
        student.set(weights)
        order = torch.from_numpy(self.order).to(pixels.device)
        own = torch.stack([networks.forward(student.network, pixels[rows])[0] for rows in order])
        goals = torch.stack([_mean_features(student, real, rows) for rows in real.classes])
        prefixes = prefix_weights(np.arange(self.order.shape[1]), pixels.device)
        found = feature_distances(Measurements(real=goals[:, None], synthetic=own, weights=prefixes))
        self.subsets = self.subsets.after(iteration, found)

    def record(self, progress: Progress, iteration: int) -> None:
        """Record the choices and distances up to an iteration."""
        progress.record("subsets", self.subsets.rows(iteration))
        if len(self.subsets.loops):
            progress.record("distances", self.subsets.distance_rows())


def _mean_features(student: Student, real: RealImages, rows: IntArray) -> torch.Tensor:
    """The mean features f64 [d] of some real images."""
    parts = [
        networks.forward(student.network, real.take(rows[first : first + _BATCH]))[0].double().sum(0)
        for first in range(0, len(rows), _BATCH)
    ]
    return torch.stack(parts).sum(0) / len(rows)
