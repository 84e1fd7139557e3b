"""Candidates by class and seed, and the best crops of a class, against sorting everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis import mosaics


def test_candidates_are_drawn_by_seed_and_class_alone() -> None:
    labels = np.random.default_rng(3).permutation(np.arange(36) % 3)
    search = mosaics.Search(4, candidates=5)
    every = np.ones(3, dtype=bool)
    drawn = mosaics.draw_candidates(labels, every, search)
    assert np.bincount(labels[drawn]).tolist() == [5, 5, 5]
    only = mosaics.draw_candidates(labels, np.array([False, True, False]), search)
    assert (only == (drawn & (labels == 1))).all()
    assert mosaics.draw_candidates(labels, every, replace(search, candidates=12)).all(), "all, where there are fewer"
    assert (mosaics.draw_candidates(labels, every, replace(search, seed=5)) != drawn).any()
    larger = mosaics.draw_candidates(labels, every, replace(search, candidates=8))
    assert (larger | ~drawn).all(), "more candidates keep those there were"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_best_crops_are_what_sorting_everything_would(data: st.DataObject) -> None:
    n_classes, n = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 40))
    places = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n_classes, max_size=n_classes)))
    # Each class is given at least as many crops as it has places.
    labels = np.concatenate([np.repeat(np.arange(n_classes), places), np.arange(n) % n_classes])
    labels = np.array(data.draw(st.permutations(labels.tolist())), dtype=np.int64)
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(labels), max_size=len(labels))), np.float32)
    pixels = np.repeat(np.arange(len(labels), dtype=np.uint8), 3).reshape(-1, 1, 1, 3)
    best = mosaics.BestCrops(places, 1)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(labels)), max_size=5)))
    for rows in np.split(np.arange(len(labels)), cuts):
        best.add(labels[rows], rows, scores[rows], pixels[rows])
    for label in range(n_classes):
        expected = sorted((scores[row], row) for row in range(len(labels)) if labels[row] == label)[: places[label]]
        held = best.labels == label
        assert sorted(zip(best.scores[held], best.rows[held], strict=True)) == expected
    assert (best.pixels[:, 0, 0, 0] == best.rows).all()


@pytest.mark.parametrize("ranks", ["stratified", "consecutive"])
def test_mosaics_show_ranks_across_images_or_one_image_after_another(ranks: Any) -> None:
    """Two images of class 1 and one of class 0, in grids of two by two; a crop is one pixel, its score its colour."""
    labels = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1])
    best = mosaics.BestCrops(np.array([4, 8]), 1)
    rows = np.arange(12)
    best.add(
        labels,
        rows,
        np.linspace(1, 0, 12, dtype=np.float32),
        np.repeat(100 + rows, 3).astype(np.uint8).reshape(-1, 1, 1, 3),
    )
    ranked = [100 + row for row in rows[::-1] if labels[row] == 1]
    only = [100 + row for row in rows[::-1] if labels[row] == 0]
    found = best.mosaics(np.array([1, 0, 1]), 2, ranks)[..., 0].reshape(3, 4).tolist()
    expected = [ranked[::2], only, ranked[1::2]] if ranks == "stratified" else [ranked[:4], only, ranked[4:]]
    assert found == expected
