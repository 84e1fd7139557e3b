"""Prototypes: planted clusters are found, in a fixed order; the mini-batch way against its update, written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis.diffusion.prototypes import Recipe

LLOYD = Recipe("digest", 16, False, 1, "all", 10, "centre", 0)
SHAPE = (4, 2, 2)


def planted(sizes: list[int], seed: int = 0, spread: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Latents [n, *SHAPE] in clusters of these sizes around distant centres, in random order, and the centres."""
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(16)[: len(sizes)] * np.arange(1, len(sizes) + 1)[:, None]
    latents = np.repeat(centres, sizes, axis=0) + spread * rng.normal(size=(sum(sizes), 16))
    latents = rng.permutation(latents).astype(np.float32)
    return latents.reshape(-1, *SHAPE), centres


@settings(deadline=None, max_examples=15)
@given(st.permutations([3, 5, 8, 12]), st.integers(0, 100), st.integers(-(2**63), 2**63 - 1))
def test_planted_clusters_are_found_the_largest_first(sizes: list[int], label: int, seed: int) -> None:
    latents, centres = planted(sizes, label)
    found = replace(LLOYD, seed=seed).make(latents, label, 4)
    assert found.sizes.tolist() == [12, 8, 5, 3] and found.latents.dtype == np.float32
    largest_first = centres[np.argsort(sizes)[::-1]]
    assert np.allclose(found.latents.reshape(4, 16), largest_first, atol=0.03)


def test_of_equal_clusters_the_one_next_to_the_mean_of_the_class_comes_first() -> None:
    latents, centres = planted([4, 4, 4])
    found = LLOYD.make(latents, 0, 3).latents.reshape(3, 16)
    off = np.linalg.norm(centres - latents.reshape(-1, 16).mean(0), axis=1)
    assert np.allclose(found, centres[np.argsort(off)], atol=0.03) and len({*off.round(3)}) == 3


def test_centres_are_means_and_nearest_are_images() -> None:
    latents = np.random.default_rng(3).normal(size=(40, *SHAPE)).astype(np.float32)
    flat, found = latents.reshape(40, 16).astype(np.float64), LLOYD.make(latents, 2, 5)
    distances = np.linalg.norm(flat[:, None] - found.latents.reshape(1, 5, 16), axis=2)
    members = distances.argmin(1)
    assert np.bincount(members).tolist() == found.sizes.tolist()
    for place, centre in enumerate(found.latents.reshape(5, 16)):
        assert np.allclose(centre, flat[members == place].mean(0), atol=1e-5)
    medoids = replace(LLOYD, place="nearest").make(latents, 2, 5).latents
    assert np.array_equal(medoids, latents[distances.argmin(0)])


def test_minibatch_moves_centres_by_the_running_mean() -> None:
    """centre += (x - centre) / count for each latent x of a group, assigned before the group moves any; a last group
    that is not full is left out."""
    latents, _ = planted([30, 21, 12], spread=1.0)
    recipe = replace(LLOYD, clusters="minibatch", expand=4)  # groups of 12, 63 latents
    found = recipe.make(latents, 0, 3)
    flat = latents.reshape(-1, 16).astype(np.float64)
    # The first group starts the centres, which only the library can say; they are taken from a run with it alone.
    first = recipe.make(latents[:12], 0, 3)
    centres, counts = first.latents.reshape(3, 16).astype(np.float64), first.sizes.astype(np.float64)
    for start in range(12, 60, 12):
        group = flat[start : start + 12]
        nearest = np.linalg.norm(group[:, None] - centres[None], axis=2).argmin(1)
        for x, place in zip(group, nearest, strict=True):
            counts[place] += 1
            centres[place] += (x - centres[place]) / counts[place]
    made = found.latents.reshape(3, 16)
    order = np.linalg.norm(made[:, None] - centres[None], axis=2).argmin(1)
    assert np.allclose(made, centres[order], atol=1e-4) and sorted(order) == [0, 1, 2]
    assert found.sizes.sum() == 63, "every image is counted, also those of the last group"
    assert not np.allclose(found.latents, LLOYD.make(latents, 0, 3).latents, atol=1e-3)


def test_a_class_smaller_than_a_group_is_one_group() -> None:
    latents, centres = planted([3, 2])
    found = replace(LLOYD, clusters="minibatch").make(latents, 0, 2)
    assert np.allclose(found.latents.reshape(2, 16), centres, atol=0.03)


@pytest.mark.parametrize("clusters", ["all", "minibatch"])
def test_equal_latents_and_as_many_prototypes_as_images(clusters: str) -> None:
    recipe = replace(LLOYD, clusters=clusters)
    same = recipe.make(np.ones((4, *SHAPE), np.float32), 0, 3)
    assert np.allclose(same.latents, 1) and same.sizes.sum() == 4
    latents, _ = planted([1, 1, 1])
    found = recipe.make(latents, 0, 3)
    assert found.sizes.tolist() == [1, 1, 1]
    assert np.allclose(np.sort(found.latents, axis=0), np.sort(latents, axis=0), atol=1e-4)


def test_the_seed_and_the_class_choose_the_start() -> None:
    latents = np.random.default_rng(0).normal(size=(60, *SHAPE)).astype(np.float32)
    made = {LLOYD.make(latents, 0, 6).latents.tobytes() for _ in range(3)}
    assert len(made) == 1
    made |= {replace(LLOYD, seed=seed).make(latents, label, 6).latents.tobytes() for seed, label in ((1, 0), (0, 1))}
    assert len(made) == 3


def test_they_are_kept_under_their_recipe(tmp_path: Path) -> None:
    latents, _ = planted([5, 3])
    found = LLOYD.make(latents, 4, 2)
    LLOYD.save(tmp_path, 4, found)
    kept = LLOYD.load(tmp_path, 4, 2)
    assert kept is not None and np.array_equal(kept.latents, found.latents)
    assert kept.sizes.tolist() == [5, 3] and kept.sizes.dtype == np.int64
    assert LLOYD.load(tmp_path, 3, 2) is None and LLOYD.load(tmp_path, 4, 3) is None
    changes = {"encoder": "x", "side": 8, "half": True, "batch_size": 2, "clusters": "minibatch", "expand": 1}
    for name, value in {**changes, "place": "nearest", "seed": 1}.items():
        assert replace(LLOYD, **{name: value}).load(tmp_path, 4, 2) is None, name
