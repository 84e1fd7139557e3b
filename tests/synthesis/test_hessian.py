"""The Hessian of the synthesis loss: against plain autograd, and in the course of a recovery that does not notice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import EVERYTHING, LABELS, World, made, start_of, two_worlds

from dcpipe.synthesis import hessian, observers
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.recovery import Batch, Engine, Recovery

Seen = list[tuple[int, int, dict[str, float]]]


def measured(world: World, choices: Recovery, probes: int = 2) -> tuple[np.ndarray, Seen]:
    """The images of a recovery, and the norms (batch, step, by observer) before and after every step."""
    seen: Seen = []

    def watch(engine: Engine, batch: Batch, number: int) -> None:
        seen.append((number, batch.step, hessian.norms(engine, batch, number, probes, 5)))

    progress = replace(world.progress, watch=watch)
    return recover(start_of(LABELS), world.context, 3, progress, choices).images, seen


def test_a_recovery_does_not_notice_that_it_is_watched(tmp_path: Path) -> None:
    one, other = two_worlds(tmp_path)
    short = replace(EVERYTHING, iterations=3)
    images, seen = measured(one, short, probes=1)
    assert np.array_equal(images, made(other, short).images)
    assert [place[:2] for place in seen] == [(number, step) for number in (0, 1) for step in range(4)]
    assert all(set(norms) == set(one.nets) for _, _, norms in seen)
    assert all(value > 0 for _, _, norms in seen for value in norms.values())


def test_runs_with_and_without_flatness_are_compared_by_one_loss(tmp_path: Path) -> None:
    one, other = two_worlds(tmp_path)
    steps = replace(EVERYTHING, iterations=2)
    _, flat = measured(one, replace(steps, flat=50.0))
    _, plain = measured(other, replace(steps, flat=0.0))
    assert flat[0] == plain[0], "nothing has changed yet"
    assert flat[2][2] != plain[2][2]


def test_the_statistics_are_those_of_the_images_as_they_are(tmp_path: Path) -> None:
    """Not their running average, which as in EDC's code may begin at zero."""
    one, other = two_worlds(tmp_path)
    steps = replace(EVERYTHING, iterations=1)
    _, running = measured(one, replace(steps, matching=replace(EVERYTHING.matching, average="zero")))
    _, plain = measured(other, replace(steps, matching=replace(EVERYTHING.matching, momentum=0.0)))
    assert running[0] == plain[0]


def plainly(inputs: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance as autograd differentiates them."""
    return inputs.mean(dims, keepdim=True), inputs.var(dims, correction=0, keepdim=True)


def test_products_with_the_hessian_are_those_of_plain_autograd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    found: list[dict[str, torch.Tensor]] = []

    def watch(engine: Engine, batch: Batch, number: int) -> None:
        if (number, batch.step) != (1, 1):
            return
        vector = torch.randn(batch.pixels.shape, generator=torch.Generator().manual_seed(1))
        for moments in (observers._moments, plainly):
            monkeypatch.setattr(observers, "_moments", moments)
            surfaces = {key: hessian.surface_of(engine, batch, number, one) for key, one in engine.observers.items()}
            found.append({key: surface.hessian_times([vector])[0] for key, surface in surfaces.items()})

    recover(start_of(LABELS), world.context, 3, replace(world.progress, watch=watch), replace(EVERYTHING, iterations=2))
    ours, theirs = found
    for key in world.nets:
        apart = float((ours[key] - theirs[key]).norm() / theirs[key].norm())
        assert apart < 1e-3, f"{key}: {apart}"


def test_the_norm_is_that_of_the_whole_hessian(tmp_path: Path) -> None:
    """Of two images of 16 pixels, column by column; 64 probes, whose error is a few percent."""
    world = World(tmp_path, nets={"conv": "convnet-d2-w3"})
    checked: list[Any] = []

    def watch(engine: Engine, batch: Batch, number: int) -> None:
        if checked:
            return
        surface = hessian.surface_of(engine, batch, number, engine.observers["conv"])
        [pixels] = surface.point
        [part] = surface.parts()
        [slope] = torch.autograd.grad(part, pixels, create_graph=True)
        rows = torch.eye(slope.numel()).reshape(-1, *slope.shape)
        [columns] = torch.autograd.grad(slope, pixels, grad_outputs=rows, is_grads_batched=True)
        checked.append((float(columns.norm()), hessian.norms(engine, batch, number, 64, 0)["conv"]))

    choices = replace(EVERYTHING, iterations=1, batch_size=1)
    recover(start_of([0, 1]), world.context, 3, replace(world.progress, watch=watch), choices)
    [(whole, estimated)] = checked
    assert estimated == pytest.approx(whole, rel=0.1)
