"""DREAM's representatives: batched k-means of many classes against plain loops over one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.random import philox
from dcpipe.synthesis.gradients import representatives as module
from dcpipe.synthesis.gradients.representatives import representatives
from dcpipe.types import DataError, FloatArray, IntArray

Options = dict[str, Any]


def plain_ids(c: int, m: int) -> IntArray:
    return np.arange(c * m).reshape(c, m)


def columns(points: FloatArray, n: int, ids: IntArray | None = None, seed: int = 0, step: int = 0):
    chosen = plain_ids(*points.shape[:2]) if ids is None else ids
    return representatives(torch.tensor(points), chosen, n, seed, step).numpy()


def slow_start(ids: IntArray, k: int, seed: int, step: int) -> list[int]:
    words = [int(philox(seed, step, 500, int(i))[0]) for i in ids]
    return sorted(range(len(ids)), key=lambda row: words[row])[:k]


def slow_kmeans(points: FloatArray, start: list[int], max_iter: int, tolerance: float) -> FloatArray:
    """Lloyd on one class, as in the description of fast_pytorch_kmeans: after each step the shift is checked."""
    centroids = [points[row].copy() for row in start]
    for _ in range(max_iter):
        owner = [min(range(len(centroids)), key=lambda j: ((x - centroids[j]) ** 2).sum()) for x in points]
        new = []
        for j, old in enumerate(centroids):
            mine = [x for x, o in zip(points, owner, strict=True) if o == j]
            new.append(sum(mine) / len(mine) if mine else old)
        shift = sum(((a - b) ** 2).sum() for a, b in zip(new, centroids, strict=True))
        centroids = new
        if shift <= tolerance:
            break
    return np.array(centroids)


def slow_representatives(
    points: FloatArray, ids: IntArray, n: int, seed: int, step: int, max_iter: int = 100, tolerance: float = 1e-4
) -> list[int]:
    picks: list[int] = []
    for centroid in slow_kmeans(points, slow_start(ids, n, seed, step), max_iter, tolerance):
        distance = {row: ((point - centroid) ** 2).sum() for row, point in enumerate(points)}
        nearest = min(distance.values())
        picks.append(min((row for row, d in distance.items() if d <= nearest + 1e-11), key=lambda row: ids[row]))
    return picks


STOPS = st.tuples(st.sampled_from([1, 2, 9, 100]), st.sampled_from([1e-4, 0.5]))


@given(st.integers(1, 3), st.integers(1, 9), STOPS, st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_all_classes_at_once_give_the_same_as_one_by_one(c: int, k: int, stops: tuple[int, float], seed: int) -> None:
    """Classes of different sizes, far from the origin, with missing images set to NaN."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(k, k + 20, c)
    m = int(sizes.max())
    points = 5 + rng.normal(size=(c, m, 3))
    ids = rng.permutation(1000)[: c * m].reshape(c, m)
    ids[np.arange(m) >= sizes[:, None]] = -1
    points[ids < 0] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_ITER", stops[0])
        patch.setattr(module, "TOLERANCE", stops[1])
        found = columns(points, k, ids, seed, 7)
    for label, size in enumerate(sizes):
        own, names = points[label, :size], ids[label, :size]
        assert found[label].tolist() == slow_representatives(own, names, k, seed, 7, *stops)


def test_padding_may_stand_anywhere() -> None:
    points = np.random.default_rng(0).normal(size=(1, 12, 4))
    ids = plain_ids(1, 12)
    ids[0, [0, 5]] = -1
    there = np.flatnonzero(ids[0] >= 0)
    found, alone = columns(points, 4, ids), columns(points[:, there], 4, ids[:, there])
    assert found[0].tolist() == there[alone[0]].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_planted_clusters_are_found(seed: int) -> None:
    """Two distant clusters per class: each centroid converges to the mean of one of them from any start."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(4, 2, 8)) * 50
    cloud = rng.integers(0, 2, (4, 30))
    points = places[np.arange(4)[:, None], cloud] + rng.normal(size=(4, 30, 8))
    found = columns(points.astype(np.float32), 2, seed=seed)
    for label in range(4):
        expected = set()
        for side in range(2):
            rows = np.flatnonzero(cloud[label] == side)
            mean = points[label, rows].mean(0)
            expected.add(int(rows[((points[label, rows] - mean) ** 2).sum(1).argmin()]))
        assert set(found[label].tolist()) == expected


def test_the_start_is_a_function_of_seed_step_and_ids() -> None:
    points = np.random.default_rng(1).normal(size=(2, 40, 5))
    first = columns(points, 9, seed=1, step=2)
    assert first.tolist() == columns(points, 9, seed=1, step=2).tolist()
    assert first.tolist() != columns(points, 9, seed=2, step=2).tolist()
    assert first.tolist() != columns(points, 9, seed=1, step=3).tolist()
    assert first.tolist() != columns(points, 9, plain_ids(2, 40) + 1000, 1, 2).tolist()


@given(st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_order_of_samples_and_of_classes_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, ids = rng.normal(size=(3, 20, 4)), plain_ids(3, 20)
    order, classes = rng.permutation(20), rng.permutation(3)
    found = columns(points, 6, ids)
    mixed = columns(points[classes][:, order], 6, ids[classes][:, order])
    assert order[mixed].tolist() == found[classes].tolist()


@pytest.mark.parametrize("most", [1, 10_000, 10**9])
def test_pieces_of_any_number_of_classes_give_the_same(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    points = np.random.default_rng(2).normal(size=(5, 30, 4)).astype(np.float32)
    pieces: list[int] = []
    lloyd = module._lloyd
    monkeypatch.setattr(module, "_lloyd", lambda p, *rest: pieces.append(len(p)) or lloyd(p, *rest))
    monkeypatch.setattr(module, "PIECE_BYTES", most)
    found = columns(points, 6)
    assert pieces == {1: [1] * 5, 10_000: [3, 2], 10**9: [5]}[most]
    assert found.tolist() == [
        slow_representatives(points[c].astype(np.float64), plain_ids(5, 30)[c], 6, 0, 0) for c in range(5)
    ]


def test_one_image_may_represent_two_centroids() -> None:
    """Of three images two are the same: the cluster that goes without keeps its centroid and finds the first again."""
    points = np.array([[[4.0, 0], [4, 0], [0, 3]]])
    assert sorted(columns(points, 3)[0].tolist()) == [0, 0, 2]


def test_the_two_images_of_a_cluster_of_two_are_a_tie_that_the_lower_id_wins() -> None:
    rng = np.random.default_rng(5)
    points = 30 + rng.normal(size=(40, 2, 16))
    for ids, column in ((plain_ids(40, 2), 0), (plain_ids(40, 2)[:, ::-1].copy(), 1)):
        assert columns(points, 1, ids).tolist() == [[column]] * 40
        assert columns(points.astype(np.float32), 1, ids).tolist() == [[column]] * 40


def test_as_many_as_there_are_takes_every_image() -> None:
    points = np.random.default_rng(3).normal(size=(2, 7, 4))
    assert np.sort(columns(points, 7), axis=1).tolist() == [list(range(7))] * 2


def test_a_huge_tolerance_stops_after_one_step_and_tolerance_zero_runs_to_convergence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = np.random.default_rng(4).normal(size=(3, 200, 2))

    def with_limits(max_iter: int, tolerance: float) -> list[list[int]]:
        monkeypatch.setattr(module, "MAX_ITER", max_iter)
        monkeypatch.setattr(module, "TOLERANCE", tolerance)
        found: list[list[int]] = columns(points, 8).tolist()
        return found

    once = with_limits(1, 1e-4)
    assert with_limits(100, 1e9) == once
    assert with_limits(100, 1e-4) != once
    assert with_limits(1000, 0.0) == with_limits(100, 0.0)


def test_embeddings_may_be_half_precise_or_need_gradients() -> None:
    points = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(0)).half()
    whole = representatives(points.float(), plain_ids(2, 30), 5, 0, 0)
    assert torch.equal(representatives(points, plain_ids(2, 30), 5, 0, 0), whole)
    kept = points.float().requires_grad_()
    assert torch.equal(representatives(kept, plain_ids(2, 30), 5, 0, 0), whole)
    assert torch.equal(kept.detach(), points.float()), "what was handed over is as it was"


REFUSALS: list[tuple[Options, str]] = [
    ({"n": 6}, "6 images are requested of class 1, which has 5; request fewer, or leave the class out"),
    ({"n": 0}, "n must be at least 1, got 0"),
    ({"ids": plain_ids(2, 6)}, "ids must be [classes, images] = [2, 7] as the embeddings, got [2, 6]"),
    ({"embeddings": torch.ones(2, 7)}, "embeddings must be [classes, images, features], got [2, 7]"),
]


@pytest.mark.parametrize(("change", "told"), REFUSALS)
def test_what_cannot_be_chosen_is_refused(change: Options, told: str) -> None:
    ids = plain_ids(2, 7)
    ids[1, 5:] = -1
    given = {"embeddings": torch.ones(2, 7, 3), "ids": ids, "n": 2, "seed": 0, "step": 0} | change
    with pytest.raises(DataError) as error:
        representatives(**given)
    assert str(error.value) == f"representatives: {told}"


def test_embeddings_that_are_not_finite_are_refused() -> None:
    points = np.ones((2, 7, 3))
    points[1, 4, 0] = np.inf
    told = "the embedding of class 1, image 4 is NaN or infinite; lower the learning rate of the network"
    with pytest.raises(DataError, match=f"^representatives: {told}$"):
        columns(points, 2)


@pytest.mark.gpu
def test_the_gpu_finds_the_same_in_float64_and_the_same_again_in_float32() -> None:
    cuda = torch.device("cuda")
    points, ids = torch.randn(4, 300, 32, dtype=torch.float64), plain_ids(4, 300)
    there = representatives(points.to(cuda), ids, 20, 0, 0)
    assert torch.equal(there.cpu(), representatives(points, ids, 20, 0, 0))
    single = points.float().to(cuda)
    assert torch.equal(representatives(single, ids, 20, 0, 0), representatives(single, ids, 20, 0, 0))
