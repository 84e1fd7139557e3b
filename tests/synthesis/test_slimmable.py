"""Slimming by training: it starts at the truncated decomposition, comes closer to the set, and survives kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matching_scenes import CPU, NETWORK, KilledError, World, start_of

from dcpipe import networks
from dcpipe.synthesis import components, slimmable
from dcpipe.synthesis.components import Components
from dcpipe.synthesis.gradients import engine as engines
from dcpipe.synthesis.gradients.real import colours
from dcpipe.types import DataError, ImageSet

N = 6
DM: dict[str, Any] = {"network": NETWORK, "outer": 80, "lr": 1.0, "real_batch": 256, "strategy": "", "momentum": 0.0}
IDC: dict[str, Any] = {"network": NETWORK, "outer": 2, "inner": 2, "factor": 1, "learn_images": 8, "lr": 0.01}


def start_at(images: ImageSet, rank: int) -> Components:
    return components.decompose(components.values_of(images))[0].first(rank)


def train(world: World, images: ImageSet, rank: int, method: str, **options: Any) -> Components:
    return slimmable.train(images, start_at(images, rank), method, options, 3, world.progress, CPU)


def distance(images: ImageSet, made: Components) -> float:
    """The loss of DM in twenty random networks that training has not seen: of the mean features of each class."""
    values, whole = made.decoded(), components.values_of(images)
    mean, std = colours(torch.from_numpy(images.images))

    def features(of: np.ndarray, network: torch.nn.Module) -> torch.Tensor:
        shown = torch.from_numpy(of).float().reshape(-1, 8, 8, 3).permute(0, 3, 1, 2)
        return networks.forward(network, (shown - mean) / std)[0].reshape(3, N, -1).mean(1)

    total = 0.0
    for seed in range(20):
        torch.manual_seed(1000 + seed)
        network = networks.build(NETWORK, 3, 8)
        total += float((features(values, network) - features(whole, network)).square().sum())
    return total / 20


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(("rank", "lr", "share"), [(0, 0.2, 0.96), (1, 1.0, 0.88)])
def test_training_starts_at_the_components_and_brings_them_closer_to_the_set(
    world: World, rank: int, lr: float, share: float
) -> None:
    images = start_of(N)
    start = start_at(images, rank)
    still = train(world, images, rank, "dm", **{**DM, "lr": 1e-9, "outer": 1})
    assert np.allclose(still.decoded(), start.decoded(), atol=1e-6)
    found = train(world, images, rank, "dm", **{**DM, "lr": lr})
    assert found.rank == rank and found.bases.shape == start.bases.shape
    assert distance(images, found) < share * distance(images, start)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("idc", IDC),
        ("mdc", {"base": "idc", "options": {**IDC, "real_batch": 64}, "period": 1}),
        ("idc", {**IDC, "factor": 2}),
        ("dream", {**IDC, "cluster": 1}),
        ("dsa", {"network": NETWORK, "outer": 2, "inner": 2, "learn_epochs": 1, "strategy": ""}),
    ],
)
def test_the_loss_is_that_of_the_method_with_the_set_for_real_images(
    world: World, method: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more images are matched than there are; a set of MDC is trained by its base."""
    seen: list[engines.Engine] = []
    run = engines.Engine.run
    monkeypatch.setattr(engines.Engine, "run", lambda engine: seen.append(engine) or run(engine))
    images = start_of(N)
    images = ImageSet(images.images, images.labels, images.ids, images.classes, options.get("factor", 1))
    found = train(world, images, 1, method, **options)
    [engine] = seen
    cells = images.grid**2
    assert engine.real.pixels.shape == (3 * N * cells, 8, 8, 3) and engine.subsets is None
    assert engine.real.batch == engine.choices.real_batch == N * cells
    if cells == 1:
        assert np.array_equal(engine.real.pixels.numpy(), images.images)
    assert not np.allclose(found.decoded(), start_at(images, 1).decoded(), atol=1e-7)


def test_mdc_without_its_subsets_is_its_base(world: World, tmp_path: Path) -> None:
    images = start_of(N)
    plain = train(world, images, 2, "idc", **IDC)
    other = World(tmp_path / "other")
    nested = train(other, images, 2, "mdc", base="idc", options=IDC, period=1, weight=0.5)
    assert np.array_equal(plain.decoded(), nested.decoded())


def test_a_killed_training_ends_with_the_same_components(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(engines, "REPORT_SECONDS", -1.0)
    images, options = start_of(N), {**IDC, "outer": 3}
    whole = train(world, images, 2, "idc", **options)
    other = World(tmp_path / "killed", kill_at=3)
    with pytest.raises(KilledError):
        train(other, images, 2, "idc", **options)
    other.kill_at = -1
    again = train(other, images, 2, "idc", **options)
    assert other.told == [0, 1, 2, 3, 3, 4, 5], "it went on from the checkpoint"
    for name in ("mean", "bases", "coefficients"):
        assert np.array_equal(getattr(again, name), getattr(whole, name))


def test_methods_without_a_matching_loss_are_refused(world: World) -> None:
    with pytest.raises(DataError) as error:
        train(world, start_of(N), 1, "edc")
    assert str(error.value) == (
        "lbs trains with the loss of the method that made the set, but 'edc' does not match gradients or features; "
        "use lfs, or one of the methods mdc, idc, dream, dc, dsa, dm"
    )
