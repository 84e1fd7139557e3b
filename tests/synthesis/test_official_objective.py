"""`edc-code` is the objective of EDC's official scripts, written down here pixel by pixel in float64.

One statistic of the batch, averaged over turns from zero, against 0.5 times the global targets (BatchNorm: the running
statistics of the network; convolutions: mean and total variance of all real images) and 0.5 times the mean of the class
targets of its images, each the average over images of their own means and variances, those of patches exchanged.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import NETS, World, start_of
from slow_observers import MEAN, STD, inputs_of, pooled

from dcpipe.synthesis import METHODS, recovery
from dcpipe.types import FloatArray

PATCH, WEIGHT, FIRST, MOMENTUM = 4, 0.01, 10.0, 0.8
LABELS = [0, 0, 0, 1, 2, 2]
Call = tuple[FloatArray, float, torch.Tensor]  # normalised pixels, the term found, and the labels


class Official:
    """The targets of one observer, from real images f64 in [0, 1]."""

    def __init__(self, world: World, name: str) -> None:
        self.teacher, images = world.teachers[name], world.images.transpose(0, 3, 1, 2) / 255
        watched = inputs_of(self.teacher, images, "bn+conv")
        self.kinds = []  # layer, kind and entries of each norm
        first = 0
        for layer, (kind, values) in watched.items():
            lengths = [(kind, values.shape[1])]
            if kind == "conv":
                lengths.append(("patch", (-(-values.shape[2] // PATCH)) ** 2))
            for each, length in lengths:
                self.kinds.append((layer, each, slice(first, first + length)))
                first += length
        self.overall = pooled(watched, list(range(len(images))), PATCH)
        singles = np.stack([pooled(watched, [row], PATCH) for row in range(len(images))])
        self.own = np.stack([singles[world.labels == c].mean(0) for c in range(3)])
        for layer, kind, span in self.kinds:
            if kind == "bn":
                stored = [
                    self.teacher.weights[f"{layer}.running_{which}"].double().numpy() for which in ("mean", "var")
                ]
                self.overall[:, span] = stored
            if kind == "patch":
                self.own[:, :, span] = self.own[:, ::-1, span]
        self.running = np.zeros_like(self.overall)

    def loss(self, pixels: FloatArray, labels: list[int]) -> float:
        """The weighted matching loss at the next turn of the observer."""
        mean, std = (np.array(colours)[:, None, None] for colours in (MEAN, STD))
        watched = inputs_of(self.teacher, pixels * std + mean, "bn+conv")
        now = pooled(watched, list(range(len(pixels))), PATCH)
        self.running = MOMENTUM * self.running + (1 - MOMENTUM) * now
        mixture = self.own[labels].mean(0)
        total = 0.0
        for layer, _, span in self.kinds:
            factor = FIRST if layer == self.kinds[0][0] else 1.0
            for target in (self.overall, mixture):
                for moment in range(2):
                    total += factor * 0.5 * np.linalg.norm(self.running[moment, span] - target[moment, span])
        return WEIGHT * float(total)


def test_the_loss_of_every_step_is_that_of_the_official_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, calls = World(tmp_path), defaultdict[str, list[Call]](list)
    terms = recovery.Engine.terms

    def noted(self: Any, batch: Any, number: int, observer: Any, matcher: Any, labels: torch.Tensor) -> Any:
        found = terms(self, batch, number, observer, matcher, labels)
        assert list(found) == ["match", "cross-entropy"]
        before = batch.pixels.detach().double().numpy()
        calls[observer.name].append((before, found["match"].item(), labels))
        return found

    monkeypatch.setattr(recovery.Engine, "terms", noted)
    options = {"iterations": 6, "batch_size": 6, "crop_min": 1.0, "flip": 0.0, "patch": PATCH}
    METHODS["edc-code"](start_of(LABELS), world.context, 0, world.progress, **options)
    for name in NETS:
        official = Official(world, name)
        slow = [official.loss(pixels, labels.tolist()) for pixels, _, labels in calls[name]]
        assert len(slow) == 3 and [found for _, found, _ in calls[name]] == pytest.approx(slow, rel=1e-4)


def test_at_first_it_pushes_variances_up(tmp_path: Path) -> None:
    """An average that begins at zero lacks 0.8 of the variance, whatever the images are (edc's begins full)."""
    grown = {}
    for method in ("edc", "edc-code"):
        world = World(tmp_path)
        start = start_of(LABELS)
        options = {"iterations": 2, "batch_size": 6, "crop_min": 1.0, "flip": 0.0, "weight": 10.0, "flat": 0.0}
        images = METHODS[method](start, world.context, 0, world.progress, **options).images
        grown[method] = float(images.astype(float).var() / start.images.astype(float).var())
    assert grown["edc-code"] > 1.0 and grown["edc-code"] > grown["edc"]
