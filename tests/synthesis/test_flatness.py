"""Forms of flatness that EDC's Table 4 compares: statistics against their average's (Eq. 6), and SAM in two passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import LABELS, NETS, World, start_of
from slow_observers import MEAN, STD, inputs_of
from slow_observers import pooled as slow_pooled

from dcpipe.synthesis.matching import Matching
from dcpipe.synthesis.recovery import Batch, Engine, Recovery, batches_of
from dcpipe.synthesis.weak_augmentation import WeakAugmentation

STILL = WeakAugmentation(flip=0.0)


def opened(folder: Path, **choices: object) -> tuple[Engine, Batch, torch.Tensor]:
    """An engine with its first batch before the first step, and the labels of the batch."""
    settings = Recovery(5, 0.1, batch_size=4, augmentation=STILL, **choices)  # type: ignore[arg-type]
    world = World(folder)
    engine = Engine(start_of(LABELS), world.context, 3, world.progress, settings)
    rows = batches_of(engine.start, settings)[0]
    return engine, engine._open(rows, None), engine.labels[torch.from_numpy(rows)]


def seen(pixels: torch.Tensor) -> np.ndarray:
    """Normalised pixels as images f64 in [0, 1]."""
    mean, std = (np.array(colours)[:, None, None] for colours in (MEAN, STD))
    return pixels.detach().double().numpy() * std + mean


@pytest.mark.parametrize("classes", ["each", "mixture"])
def test_statistics_are_kept_close_to_those_of_the_average(tmp_path: Path, classes: str) -> None:
    """Eq. 6 with loops over the norms, in float64: `alpha` of the whole batch, the rest of its classes."""
    matching = Matching(alpha=0.3, classes=classes, momentum=0.8)  # type: ignore[arg-type]
    engine, batch, labels = opened(tmp_path, flat=2.5, flatness="statistics", matching=matching)
    batch.average += 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=batch.average.shape)).float()
    for place, name in enumerate(NETS):
        observer, matcher = engine.observers[name], batch.matchers[place]
        found = engine.terms(batch, 0, observer, matcher, labels)["flatness"].item()
        teacher = engine.context.observers[name]
        now, then = (inputs_of(teacher, seen(pixels), "bn+conv") for pixels in (batch.pixels, batch.average))
        groups = [(1.0 if classes == "mixture" else 0.3, list(range(len(labels))))]
        if classes == "each":
            own = {c: [row for row, label in enumerate(labels.tolist()) if label == c] for c in set(labels.tolist())}
            groups += [(0.7 * len(rows) / len(labels), rows) for rows in own.values()]
        slow = 0.0
        for weight, rows in groups:
            apart = slow_pooled(now, rows, 4) - slow_pooled(then, rows, 4)
            for segment in observer.segments:
                slow += weight * float(np.sqrt((apart[:, segment.start : segment.stop] ** 2).sum(1)).sum())
        assert found == pytest.approx(2.5 * slow, rel=1e-4)


def test_images_that_are_their_average_are_flat(tmp_path: Path) -> None:
    """No distance, and a gradient that is zero and not NaN, although a norm has none at zero."""
    engine, batch, labels = opened(tmp_path, flat=1.0, flatness="statistics")
    terms = engine.terms(batch, 0, engine.observers["res"], batch.matchers[0], labels)
    [gradient] = torch.autograd.grad(terms["flatness"], batch.pixels)
    assert terms["flatness"].item() < 1e-10 and float(gradient.abs().max()) == 0.0


def test_sam_takes_the_gradient_of_the_steepest_place_nearby(tmp_path: Path) -> None:
    """X + rho g / |g| by hand; the average of the statistics advances once, and the images stay where they were."""
    matching = Matching(alpha=0.5, momentum=0.8, average="zero")
    engine, batch, labels = opened(tmp_path, flat=0.7, flatness="sam", matching=matching)
    plain, other, _ = opened(tmp_path, matching=matching)
    observer, before = engine.observers["res"], batch.pixels.detach().clone()
    terms = engine._gradient(batch, 0, observer, batch.matchers[0], labels)
    assert list(terms) == ["match", "cross-entropy"] and torch.equal(batch.pixels.detach(), before)

    def gradient(place: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            other.pixels.copy_(place)
        other.matchers[0].running = None
        losses = plain.terms(other, 0, plain.observers["res"], other.matchers[0], labels)
        return torch.autograd.grad(sum(losses.values()), other.pixels)[0]  # type: ignore[arg-type]

    ascent = gradient(before)
    there = gradient(before + 0.7 * ascent / ascent.double().square().sum().sqrt().float())
    assert batch.pixels.grad is not None
    assert torch.allclose(batch.pixels.grad, there, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(there, ascent, rtol=1e-2, atol=1e-5)
    running, expected = batch.matchers[0].running, other.matchers[0].running
    assert running is not None and expected is not None and torch.allclose(running, expected, rtol=1e-4, atol=1e-6)
