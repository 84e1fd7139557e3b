"""Herding against iCaRL's rule evaluated by definition, one mean at a time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_vectors, stable

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.herding import herding
from dcpipe.types import DataError, FloatArray


def made(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    return pool_of_vectors((stable(sum(sizes), d, seed) + 0.5).astype(np.float32), sizes)


def seen(candidates: Candidates, label: int, normalise: bool) -> list[FloatArray]:
    rows = [np.asarray(row, dtype=np.float64) for row in candidates.vectors[candidates.rows(label)]]
    return [x / np.sqrt(x @ x) if normalise and x @ x > 0 else x for x in rows]


def reference(candidates: Candidates, label: int, ipc: int, normalise: bool) -> tuple[list[int], list[float]]:
    """iCaRL, Algorithm 4, without replacement."""
    vectors = seen(candidates, label, normalise)
    mean = sum(vectors) / len(vectors)
    picks: list[int] = []
    distances = [float(np.linalg.norm(mean))]
    for _ in range(ipc):
        left = [i for i in range(len(vectors)) if i not in picks]
        far = {i: float(np.linalg.norm(mean - sum(vectors[j] for j in [*picks, i]) / (len(picks) + 1))) for i in left}
        best = min(far.values())
        picks.append(next(i for i in left if far[i] ** 2 <= best**2 + 1e-11))
        distances.append(far[picks[-1]])
    return picks, [before - after for before, after in pairwise(distances)]


@st.composite
def small_candidates(draw: Callable[..., object]) -> tuple[Candidates, int]:
    """Integer vectors, so that duplicates, zero rows and exact ties are common; ipc up to the smallest class."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    d = draw(st.integers(1, 4))
    n = sum(sizes)
    numbers = draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    return pool_of_vectors(np.array(numbers, dtype=np.float32).reshape(n, d), sizes), draw(st.integers(1, min(sizes)))


@settings(deadline=None, max_examples=150)
@given(small_candidates(), st.booleans())
def test_picks_and_gains_are_those_of_the_definition(case: tuple[Candidates, int], normalise: bool) -> None:
    candidates, ipc = case
    picks = herding(candidates, ipc, 0, Progress(), normalise=normalise)
    assert picks.rows.dtype == np.int64
    assert picks.gains.dtype == np.float64
    for label, start in enumerate(candidates.offsets[:-1]):
        rows, gains = reference(candidates, label, ipc, normalise)
        assert (picks.rows.reshape(ipc, -1)[:, label] - start).tolist() == rows
        np.testing.assert_allclose(picks.gains.reshape(ipc, -1)[:, label], gains, rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalise", [True, False])
def test_larger_classes_agree_with_the_definition(normalise: bool) -> None:
    candidates = made([40, 33], 7, seed=1)
    picks = herding(candidates, 33, 0, Progress(), normalise=normalise)
    for label, start in enumerate((0, 40)):
        rows, gains = reference(candidates, label, 33, normalise)
        assert (picks.rows[label::2] - start).tolist() == rows
        np.testing.assert_allclose(picks.gains[label::2], gains, rtol=0, atol=1e-12)


def test_golden_picks() -> None:
    picks = herding(made([12, 12, 12], 6), 4, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains[:3], GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [5, 19, 33, 7, 17, 26, 11, 23, 29, 6, 21, 28]
GOLDEN_GAINS = [0.0295727477, 0.3018954143, 0.0926422357]


def test_an_image_at_the_mean_comes_first_and_then_pairs_that_balance() -> None:
    line = np.array([[3.0], [-1.0], [0.0], [-3.0], [1.0]])
    picks = herding(pool_of_vectors(line + 7, [5]), 5, 0, Progress(), normalise=False)
    assert picks.rows.tolist() == [2, 1, 4, 0, 3]  # 0, -1 (a tie with 1), 1, 3 (a tie with -3), -3
    np.testing.assert_allclose(picks.gains, [7, -1 / 2, 1 / 2, -3 / 4, 3 / 4], rtol=0, atol=1e-12)


def welling(vectors: FloatArray, ipc: int) -> list[int]:
    """The weight update, started at the mean, without replacement."""
    weight = vectors.mean(axis=0)
    picks: list[int] = []
    for _ in range(ipc):
        left = [i for i in range(len(vectors)) if i not in picks]
        picks.append(max(left, key=lambda i: float(weight @ vectors[i])))
        weight = weight + vectors.mean(axis=0) - vectors[picks[-1]]
    return picks


def test_on_unit_vectors_it_is_wellings_weight_update() -> None:
    candidates = made([30], 5, seed=2)
    units = np.stack(seen(candidates, 0, True))
    assert herding(candidates, 30, 0, Progress()).rows.tolist() == welling(units, 30)


def test_on_other_vectors_wellings_update_prefers_long_ones() -> None:
    line = np.array([[1.0], [2.0], [9.0]])
    assert welling(line, 1) == [2]
    assert herding(pool_of_vectors(line, [3]), 1, 0, Progress(), normalise=False).rows.tolist() == [1]


@pytest.mark.parametrize("normalise", [True, False])
def test_gains_add_up_to_the_distance_of_the_means(normalise: bool) -> None:
    candidates = made([20], 4, seed=3)
    vectors = np.stack(seen(candidates, 0, normalise))
    picks = herding(candidates, 20, 0, Progress(), normalise=normalise)
    for k in (1, 7, 20):
        left = np.linalg.norm(vectors.mean(axis=0)) - picks.gains[:k].sum()
        assert left == pytest.approx(np.linalg.norm(vectors.mean(axis=0) - vectors[picks.rows[:k]].mean(axis=0)))
    assert sorted(picks.rows.tolist()) == list(range(20))


def test_the_mean_is_nearer_than_that_of_random_picks() -> None:
    candidates = made([200], 8, seed=4)
    vectors = np.stack(seen(candidates, 0, True))
    mean = vectors.mean(axis=0)
    herded = np.linalg.norm(mean - vectors[herding(candidates, 10, 0, Progress()).rows].mean(axis=0))
    order = np.argsort(stable(100, 200, 5), axis=1)[:, :10]
    assert herded < np.linalg.norm(mean - vectors[order].mean(axis=1), axis=1).min() / 2


def test_smaller_ipc_is_a_prefix() -> None:
    candidates = made([9, 8, 10], 4, seed=5)
    full = herding(candidates, 8, 0, Progress())
    for ipc in (1, 3, 7):
        part = herding(candidates, ipc, 0, Progress())
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        assert part.gains.tolist() == full.gains[: 3 * ipc].tolist()


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(10)), st.permutations(range(10, 20)), st.booleans())
def test_row_order_does_not_matter_where_nothing_ties(first: list[int], second: list[int], normalise: bool) -> None:
    candidates, order = made([10, 10], 4, seed=6), np.array(first + second)
    moved = replace(candidates, vectors=np.asarray(candidates.vectors)[order])
    picks, again = (herding(c, 10, 0, Progress(), normalise=normalise) for c in (candidates, moved))
    assert picks.rows.tolist() == order[again.rows].tolist()


def test_rotated_scaled_and_moved_vectors_give_the_same_picks() -> None:
    candidates = made([20, 20], 6, seed=7)
    vectors = np.asarray(candidates.vectors, dtype=np.float64)
    turn = np.linalg.qr(stable(6, 6, 77))[0]
    scale = 2.0 ** np.arange(-20, 20)[:, None]
    rows = herding(candidates, 12, 0, Progress()).rows.tolist()
    assert herding(replace(candidates, vectors=scale * vectors @ turn), 12, 0, Progress()).rows.tolist() == rows
    rows = herding(candidates, 12, 0, Progress(), normalise=False).rows.tolist()
    for other in (1000 * vectors, vectors @ turn + 30):
        assert herding(replace(candidates, vectors=other), 12, 0, Progress(), normalise=False).rows.tolist() == rows


def test_copies_and_zero_vectors_are_picked_in_row_order() -> None:
    for vectors in (np.zeros((5, 3)), np.tile(stable(1, 37, 8), (5, 1))):
        picks = herding(pool_of_vectors(vectors, [5]), 5, 0, Progress())
        assert picks.rows.tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_allclose(picks.gains[1:], 0, rtol=0, atol=1e-12)


def test_the_seed_does_not_matter_inputs_stay_and_progress_is_reported() -> None:
    candidates = made([6, 6], 3, seed=9)
    before = np.asarray(candidates.vectors).copy()
    told: list[tuple[int, int]] = []
    picks = herding(
        candidates, 4, 0, Progress(progress=lambda done, total: told.append((done, total))), normalise=False
    )
    assert herding(candidates, 4, 1, Progress(), normalise=False).rows.tolist() == picks.rows.tolist()
    assert np.array_equal(candidates.vectors, before)
    assert told == [(4, 8), (8, 8)]


def test_more_images_than_a_class_has_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        herding(made([5, 3], 2), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
