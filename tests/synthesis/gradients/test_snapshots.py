"""Snapshots in the course of matching, and runs of other seeds that start from the same images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matching_scenes import NETWORK, KilledError, World, start_of

from dcpipe.synthesis.gradients.choices import Choices
from dcpipe.synthesis.gradients.engine import Engine

Images = dict[int, list[np.ndarray]]
TINY: dict[str, Any] = {
    "network": NETWORK,
    "inner": 2,
    "lr": 5.0,
    "real_batch": 4,
    "learn_images": 16,
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "notes")


def engine(
    world: World, seed: int = 0, start_seed: int | None = None, kept: Images | None = None, **own: Any
) -> Engine:
    """An engine that keeps every snapshot it tells of."""
    seen: Images = {} if kept is None else kept
    progress = replace(world.progress, snapshot=lambda loop, made: seen.setdefault(loop, []).append(made().images))
    context = replace(world.context, start_seed=start_seed)
    return Engine(start_of(2), context, seed, progress, Choices(**{**TINY, "outer": 3, **own}))


def test_the_images_after_every_loop_are_those_of_shorter_runs(world: World, tmp_path: Path) -> None:
    kept: Images = {}
    last = engine(world, kept=kept).run()
    assert list(kept) == [0, 1, 2, 3] and all(len(found) == 1 for found in kept.values())
    order = np.argsort(start_of(2).labels, kind="stable")
    assert np.array_equal(kept[0][0][order], start_of(2).images[order]), "the start"
    assert np.array_equal(kept[3][0], last.images)
    for loops in (1, 2):
        assert np.array_equal(kept[loops][0], engine(World(tmp_path / str(loops)), outer=loops).run().images)
    assert not np.array_equal(kept[1][0], kept[2][0])


def test_a_run_that_was_killed_tells_the_same_snapshots(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("dcpipe.synthesis.gradients.engine.REPORT_SECONDS", -1.0)
    whole: Images = {}
    engine(World(world.folder.parent / "whole"), kept=whole).run()
    kept: Images = {}
    world.kill_at = 3  # in the middle of the second loop
    with pytest.raises(KilledError):
        engine(world, kept=kept).run()
    world.kill_at = -1
    assert list(kept) == [0, 1]
    engine(world, kept=kept).run()
    assert list(kept) == [0, 1, 2, 3]
    for loop, found in kept.items():
        assert all(np.array_equal(images, whole[loop][0]) for images in found)


@pytest.mark.parametrize(
    "choices",
    [
        {"initial": "mix", "factor": 2},
        {"initial": "mix", "cluster": 1},
        {"initial": "noise", "space": "normalised"},
    ],
)
def test_runs_of_other_seeds_start_from_the_same_images(world: World, tmp_path: Path, choices: dict[str, Any]) -> None:
    first, other, same = (
        engine(World(tmp_path / name), seed, start_seed, **choices)
        for name, seed, start_seed in (("first", 4, None), ("other", 5, None), ("same", 5, 4))
    )
    begun = [one.pixels.clone() for one in (first, other, same)]
    assert bool((begun[0] == begun[2]).all()) and not bool((begun[0] == begun[1]).all())
    assert (same.seed, same.real.seed) == (5, 5)
    assert np.array_equal(same.real.class_batches(0), other.real.class_batches(0)), "but match other real images"
    assert all(bool((a == b).all()) for a, b in zip(same.network.parameters(), other.network.parameters(), strict=True))
    assert not np.array_equal(first.run().images, same.run().images)
