"""Candidates by class and seed, and the best crops of a class, against sorting everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
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


def triangle(length: int, cell: int) -> np.ndarray:
    """Weights f64 [cell, length] of bilinear shrinking or enlarging: a triangle as wide as two samples are apart, at
    least two pixels."""
    scale = length / cell
    centre = (np.arange(cell)[:, None] + 0.5) * scale
    weights = np.maximum(0.0, 1 - abs(np.arange(length) + 0.5 - centre) / max(scale, 1.0))
    return weights / weights.sum(1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.data())
def test_a_crop_on_pixels_is_cut_there_and_filtered_by_triangles(size: int, cell: int, data: st.DataObject) -> None:
    width, height = (data.draw(st.integers(1, size)) for _ in range(2))
    left, top = data.draw(st.integers(0, size - width)), data.draw(st.integers(0, size - height))
    images = np.random.default_rng(size).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    # The middle of what becomes this place: u = (place + 1/2) / (size - side + 1), of the room 1 - side / size.
    shares = [(p + 0.5) / (size - s + 1) * (1 - s / size) for p, s in ((left, width), (top, height))]
    box = np.array([[*shares, width / size, height / size]])
    found = mosaics.cut_pixels(torch.from_numpy(images), box, cell)
    part = images[0, top : top + height, left : left + width].astype(np.float64) / 255
    expected = np.einsum("ai,bj,ijc->cab", triangle(height, cell), triangle(width, cell), part)
    assert found.dtype == torch.float32 and np.allclose(found[0].numpy(), expected, atol=1e-5)


def test_places_on_pixels_are_equally_frequent_and_whole_images_stay() -> None:
    """A ramp shows where a crop of one pixel comes from; sides of 0.3 of 4 pixels are rounded to 1."""
    rng, n = np.random.default_rng(0), 4000
    ramp = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None], (4, 4, 3)).copy()  # value: row, so top
    boxes = np.column_stack([rng.random((n, 2)) * 0.7, np.full((n, 2), 0.3)])
    found = mosaics.cut_pixels(torch.from_numpy(ramp).expand(n, 4, 4, 3), boxes, 1)[:, 0, 0, 0] * 255
    counts = np.bincount(found.round().long().numpy(), minlength=4)
    assert abs(counts - n / 4).max() < 5 * np.sqrt(n * 3 / 16)
    whole = mosaics.cut_pixels(torch.from_numpy(ramp)[None], np.array([[0.0, 0.0, 1.0, 1.0]]), 4)
    assert torch.equal((whole[0] * 255).round().permute(1, 2, 0).to(torch.uint8), torch.from_numpy(ramp))
