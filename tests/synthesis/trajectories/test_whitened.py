"""Matching in whitened space: what experts and students see, what is stored, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matching_scenes import NETWORK, SIZE, KilledError, World, start_of

from dcpipe import training
from dcpipe.synthesis import METHODS
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories import engine, unrolling, whitened
from dcpipe.synthesis.trajectories.collection import collected
from dcpipe.synthesis.trajectories.experts import Recipe
from dcpipe.types import DataError, ImageSet
from dcpipe.views.whitening import Whitener, fit

EPS = 0.1
TINY: dict[str, Any] = {
    **{"network": NETWORK, "iterations": 2, "steps": 2, "span": 1, "start_below": 2, "lr": 20.0, "rate": 0.05},
    **{"lr_rate": 1e-3, "experts": 2, "expert_epochs": 2, "expert_lr": 0.05, "expert_batch": 16, "strategy": ""},
    "whitening": EPS,
}


def run(world: World, **options: Any) -> ImageSet:
    return METHODS["mtt"](start_of(2), world.context, 0, world.progress, **TINY | options)


def reference(world: World, images: np.ndarray) -> np.ndarray:
    """Images u8 whitened as float64 NumPy does it, [n, 3, s, s]."""
    x, own = (a.astype(np.float64).transpose(0, 3, 1, 2).reshape(len(a), -1) / 255 for a in (images, world.images))
    values, vectors = np.linalg.eigh(np.cov(own.T))
    whitened = (x - own.mean(0)) @ vectors @ np.diag((np.maximum(values, 0) + EPS) ** -0.5) @ vectors.T
    return whitened.reshape(-1, 3, SIZE, SIZE)


def test_experts_and_students_see_whitened_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, seen, taught = World(tmp_path), [], []
    gradients, step = unrolling.gradients, Teaching.step

    def watched(student: Any, first: Any, last: Any, batches: Any, *others: Any) -> unrolling.Gradients:
        seen.append(batches(0)[0].detach().numpy())
        return gradients(student, first, last, batches, *others)

    def teaching(self: Teaching, network: Any, optimizer: Any, images: torch.Tensor, *others: Any) -> Any:
        taught.append(images.numpy())
        return step(self, network, optimizer, images, *others)

    monkeypatch.setattr(unrolling, "gradients", watched)
    monkeypatch.setattr(Teaching, "step", teaching)
    run(world, iterations=1)
    own = np.sort(reference(world, start_of(2).images).ravel())
    assert np.allclose(np.sort(seen[0].ravel()), own, atol=1e-4)
    epoch = np.concatenate(taught)[: len(world.images)]
    assert np.allclose(np.sort(epoch.ravel()), np.sort(reference(world, world.images).ravel()), atol=1e-4)


def test_images_that_do_not_move_come_back_and_the_transform_is_stored(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert np.array_equal(run(world, lr=1e-9).images, start_of(2).images)
    [transform] = world.transforms
    pixels = torch.from_numpy(start_of(2).images).permute(0, 3, 1, 2).float() / 255
    shown = Whitener.of(transform, "cpu")(pixels).numpy()
    assert transform.eps == EPS and np.allclose(shown, reference(world, start_of(2).images), atol=1e-4)


def test_noise_starts_in_whitened_space(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world, iterations=1, lr=1e-9, initial="noise")
    [row] = dict(world.records)["whitening"]
    assert row["whitened"] == pytest.approx(1, abs=0.05) and row["clipped"] < 0.5


def test_what_bytes_lose_is_in_the_record(tmp_path: Path) -> None:
    world = World(tmp_path)
    whitener = fit(torch.from_numpy(world.images), EPS)
    pixels = torch.full((1, 3, SIZE, SIZE), 0.5, dtype=torch.float64)
    pixels[0, 0, 0, 0], pixels[0, 0, 0, 1], pixels[0, 0, 0, 2] = 1.5, -0.1, 1.001  # the last by less than half a step
    stored = replace(start_of(1), images=np.full((3, SIZE, SIZE, 3), 128, dtype=np.uint8))
    stored.images[:, 0, 0, 0], stored.images[:, 0, 1, 0], stored.images[:, 0, 2, 0] = 255, 0, 255
    row = whitened.losses(whitener, whitener(pixels.expand(3, -1, -1, -1)), stored)
    d = 3 * SIZE**2
    assert row["eps"] == EPS and row["clipped"] == pytest.approx(2 / d)
    assert row["clipping"] == pytest.approx(255 * ((0.25 + 0.01 + 1e-6) / d) ** 0.5)
    assert row["rounding"] == pytest.approx(0.5 * ((d - 3) / d) ** 0.5, rel=1e-4)
    kept = torch.from_numpy(stored.images).permute(0, 3, 1, 2).double() / 255
    error = ((kept - pixels).flatten(1) @ whitener.matrix).square().mean().sqrt()
    assert row["whitened error"] == pytest.approx(float(error), rel=1e-4)
    assert row["whitened"] == pytest.approx(float(whitener(pixels).square().mean().sqrt()))


@pytest.mark.parametrize("iteration", [0, 1])
def test_a_killed_run_resumes_with_the_same_transform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iteration: int
) -> None:
    one, world = World(tmp_path / "a"), World(tmp_path / "b")
    whole, iterate, killed = run(one).images, engine.Engine._iterate, []
    monkeypatch.setattr(training, "checkpoint_pause", lambda: -1.0)

    def dies(self: engine.Engine) -> float:
        if self.iteration == iteration and not killed:
            killed.append(iteration)
            raise KilledError
        return iterate(self)

    monkeypatch.setattr(engine.Engine, "_iterate", dies)
    with pytest.raises(KilledError):
        run(world)
    monkeypatch.setattr(whitened, "fit", None)  # it was fitted before
    assert np.array_equal(run(world).images, whole)
    first, again = world.transforms
    assert np.array_equal(first.matrix, again.matrix) and np.array_equal(first.matrix, one.transforms[0].matrix)


def test_experts_of_other_spaces_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    real, plain = (RealImages(world.context, 3, 0, 1) for _ in range(2))
    whitened.whiten(real, EPS, world.progress)
    recipe = Recipe(NETWORK, 3, 8, 1, Teaching(0.05, 0.0, 0.0, 10, ""), 0)
    in_whitened = replace(recipe, whitening=EPS)
    assert recipe.folder(tmp_path) != in_whitened.folder(tmp_path)
    collected(in_whitened, real, tmp_path / "w", 1)
    collected(recipe, plain, tmp_path / "p", 1)
    assert len(collected(in_whitened, real, tmp_path / "w", 1).paths) == 1
    with pytest.raises(DataError, match=r"trained with whitening 0.1, not null; set whitening: 0.1, or give another"):
        collected(recipe, plain, tmp_path / "w", 1)
    with pytest.raises(DataError, match=r"trained with whitening null, not 0.1; set whitening: null, or give another"):
        collected(in_whitened, real, tmp_path / "p", 1)
    with pytest.raises(DataError, match="were trained on other images"):
        collected(in_whitened, plain, tmp_path / "w", 1)


def test_it_is_refused_where_the_transform_would_be_lost(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(DataError, match="whitening: only the stage synthesis keeps the transform"):
        METHODS["mtt"](start_of(2), world.context, 0, replace(world.progress, whiten=None), **TINY)
    assert not list(tmp_path.iterdir()), "before any work"
