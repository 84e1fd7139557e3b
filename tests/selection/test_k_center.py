"""Farthest-first traversal against its definition, and its bound against all subsets of small classes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_vectors, stable

from dcpipe.random import Draw, permutation
from dcpipe.selection import Candidates, Progress
from dcpipe.selection.k_center import Start, k_center
from dcpipe.types import DataError, FloatArray

STARTS: tuple[Start, ...] = ("medoid", "random")


def made(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    return pool_of_vectors((stable(sum(sizes), d, seed) + 0.5).astype(np.float32), sizes)


def between(candidates: Candidates, label: int, normalise: bool) -> FloatArray:
    """All distances in one class, [N, N], each from the difference of two vectors."""
    rows = [np.asarray(row, dtype=np.float64) for row in candidates.vectors[candidates.rows(label)]]
    rows = [x / np.sqrt(x @ x) if normalise and x @ x > 0 else x for x in rows]
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in rows] for a in rows])


def starts(candidates: Candidates, seed: int) -> list[int]:
    """The row of each class that a random start draws."""
    firsts = []
    for label in range(candidates.n_classes):
        own = candidates.rows(label)
        firsts.append(own.start + int(permutation(seed, label, own.stop - own.start, draw=Draw.K_CENTER_START)[0]))
    return firsts


def radius(apart: FloatArray, picks: list[int]) -> float:
    return float(apart[:, picks].min(axis=1).max())


def reference(apart: FloatArray, first: int | None, ipc: int) -> tuple[list[int], list[float]]:
    """Farthest-first from `first`, or from the row with the least sum of squared distances to all others."""
    n = len(apart)
    if first is None:
        sums = (apart**2).sum(axis=1)
        first = next(i for i in range(n) if sums[i] <= sums.min() + 1e-10)
    picks = [first]
    while len(picks) < ipc:
        left = [i for i in range(n) if i not in picks]
        nearest = {i: min(apart[i, j] for j in picks) for i in left}
        picks.append(next(i for i in left if nearest[i] ** 2 >= max(nearest.values()) ** 2 - 1e-11))
    radii = [radius(apart, picks[:k]) for k in range(1, ipc + 1)]
    return picks, [0.0] + [before - after for before, after in pairwise(radii)]


@st.composite
def small_candidates(draw: Callable[..., object]) -> tuple[Candidates, int]:
    """Integer vectors, so that duplicates, zero rows and exact ties are common; ipc up to the smallest class."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    d = draw(st.integers(1, 4))
    n = sum(sizes)
    numbers = draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    return pool_of_vectors(np.array(numbers, dtype=np.float32).reshape(n, d), sizes), draw(st.integers(1, min(sizes)))


@settings(deadline=None, max_examples=150)
@given(small_candidates(), st.booleans(), st.sampled_from(STARTS), st.integers(0, 2**63 - 1))
def test_picks_gains_and_the_bound_are_those_of_the_definition(
    case: tuple[Candidates, int], normalise: bool, start: Start, seed: int
) -> None:
    candidates, ipc = case
    picks = k_center(candidates, ipc, seed, Progress(), normalise=normalise, start=start)
    assert picks.rows.dtype == np.int64
    assert picks.gains.dtype == np.float64
    assert (picks.gains >= 0).all()
    drawn = starts(candidates, seed)
    for label, offset in enumerate(candidates.offsets[:-1]):
        apart = between(candidates, label, normalise)
        rows, gains = reference(apart, drawn[label] - int(offset) if start == "random" else None, ipc)
        assert (picks.rows.reshape(ipc, -1)[:, label] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains.reshape(ipc, -1)[:, label], gains, rtol=0, atol=1e-12)
        best = min(radius(apart, list(subset)) for subset in combinations(range(len(apart)), ipc))
        assert radius(apart, rows) <= 2 * best + 1e-9


def test_the_radius_is_within_the_bound() -> None:
    # The middle covers all at 1; from an end, the other end is 2 away.
    line = np.array([[0.0], [0.9], [1.0], [1.1], [2.0]])
    candidates = pool_of_vectors(line, [5])
    seed = next(s for s in range(100) if starts(candidates, s) == [0])
    rows = k_center(candidates, 1, seed, Progress(), normalise=False, start="random").rows.tolist()
    apart = between(candidates, 0, False)
    assert radius(apart, rows) == 2 * min(radius(apart, [i]) for i in range(5))


@pytest.mark.parametrize("start", STARTS)
def test_larger_classes_agree_with_the_definition(start: Start) -> None:
    candidates = made([40, 33], 7, seed=1)
    picks = k_center(candidates, 33, 4, Progress(), start=start)
    drawn = starts(candidates, 4)
    for label, offset in enumerate((0, 40)):
        first = drawn[label] - offset if start == "random" else None
        rows, gains = reference(between(candidates, label, True), first, 33)
        assert (picks.rows[label::2] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains[label::2], gains, rtol=0, atol=1e-12)


def test_golden_picks() -> None:
    picks = k_center(made([12, 12, 12], 6), 4, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains[3:6], GOLDEN_GAINS, rtol=0, atol=1e-8)
    assert k_center(made([12, 12, 12], 6), 4, 5, Progress(), start="random").rows.tolist() == GOLDEN_RANDOM


GOLDEN_ROWS = [5, 19, 33, 6, 13, 31, 9, 15, 34, 10, 18, 29]
GOLDEN_GAINS = [0.3720156090, 0.0992939223, 0.1886131511]
GOLDEN_RANDOM = [1, 17, 24, 0, 14, 34, 10, 15, 31, 2, 18, 32]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("seed", range(5))
def test_one_image_of_each_cluster(start: Start, seed: int) -> None:
    centres = np.eye(4)[np.arange(40) % 4]
    rows = k_center(pool_of_vectors(centres + 0.1 * stable(40, 4, seed), [40]), 4, seed, Progress(), start=start).rows
    assert sorted((rows % 4).tolist()) == [0, 1, 2, 3]


def test_the_first_is_the_medoid_of_squared_distances_and_then_come_the_ends() -> None:
    line = np.array([[10.0], [0.0], [1.0], [2.5], [2.0]])
    picks = k_center(pool_of_vectors(line, [5]), 4, 0, Progress(), normalise=False)
    assert picks.rows.tolist() == [3, 0, 1, 2]  # the mean is 3.1; then 7.5, 2.5 and 1 away, 1 tying with 2
    np.testing.assert_allclose(picks.gains, [0, 7.5 - 2.5, 2.5 - 1, 1 - 0.5], rtol=0, atol=1e-12)


def test_only_a_random_start_knows_the_seed() -> None:
    candidates = made([30, 30], 5, seed=3)
    medoid = [k_center(candidates, 3, seed, Progress()).rows.tolist() for seed in range(20)]
    assert medoid == [medoid[0]] * 20
    drawn = [k_center(candidates, 3, seed, Progress(), start="random").rows.tolist() for seed in range(20)]
    assert len({tuple(rows[:2]) for rows in drawn}) > 10
    assert [rows[:2] for rows in drawn] == [starts(candidates, seed) for seed in range(20)]


@pytest.mark.parametrize("start", STARTS)
def test_smaller_ipc_is_a_prefix(start: Start) -> None:
    candidates = made([9, 8, 10], 4, seed=5)
    full = k_center(candidates, 8, 2, Progress(), start=start)
    for ipc in (1, 3, 7):
        part = k_center(candidates, ipc, 2, Progress(), start=start)
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        assert part.gains.tolist() == full.gains[: 3 * ipc].tolist()


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(10)), st.permutations(range(10, 20)), st.booleans())
def test_row_order_does_not_matter_where_nothing_ties(first: list[int], second: list[int], normalise: bool) -> None:
    candidates, order = made([10, 10], 4, seed=6), np.array(first + second)
    moved = replace(candidates, vectors=np.asarray(candidates.vectors)[order])
    picks, again = (k_center(c, 10, 0, Progress(), normalise=normalise) for c in (candidates, moved))
    assert picks.rows.tolist() == order[again.rows].tolist()


def test_rotated_scaled_and_moved_vectors_give_the_same_picks() -> None:
    candidates = made([20, 20], 6, seed=7)
    vectors = np.asarray(candidates.vectors, dtype=np.float64)
    turn = np.linalg.qr(stable(6, 6, 77))[0]
    scale = 2.0 ** np.arange(-20, 20)[:, None]
    rows = k_center(candidates, 12, 0, Progress()).rows.tolist()
    assert k_center(replace(candidates, vectors=scale * vectors @ turn), 12, 0, Progress()).rows.tolist() == rows
    rows = k_center(candidates, 12, 0, Progress(), normalise=False).rows.tolist()
    for other in (1000 * vectors, vectors @ turn + 30):
        assert k_center(replace(candidates, vectors=other), 12, 0, Progress(), normalise=False).rows.tolist() == rows


def test_copies_are_left_for_last_and_come_in_row_order() -> None:
    vectors = np.repeat(stable(3, 37, 8) + 5, 3, axis=0)
    picks = k_center(pool_of_vectors(vectors, [9]), 9, 0, Progress())
    assert {row // 3 for row in picks.rows[:3].tolist()} == {0, 1, 2}
    assert picks.rows[3:].tolist() == sorted(set(range(9)) - set(picks.rows[:3].tolist()))
    assert picks.gains[3:].tolist() == [0.0] * 6
    assert k_center(pool_of_vectors(np.zeros((4, 2)), [4]), 4, 0, Progress()).rows.tolist() == [0, 1, 2, 3]


def test_inputs_stay_and_progress_is_reported() -> None:
    candidates = made([6, 6], 3, seed=9)
    before = np.asarray(candidates.vectors).copy()
    told: list[tuple[int, int]] = []
    k_center(candidates, 4, 0, Progress(progress=lambda done, total: told.append((done, total))), normalise=False)
    assert np.array_equal(candidates.vectors, before)
    assert told == [(4, 8), (8, 8)]


def test_errors_name_the_option_and_the_remedy() -> None:
    with pytest.raises(DataError) as error:
        k_center(made([3, 3], 2), 1, 0, Progress(), start="mean")  # type: ignore[arg-type]
    assert str(error.value) == "selector 'k_center': start is 'mean': input should be 'medoid' or 'random'"
    with pytest.raises(DataError) as error:
        k_center(made([5, 3], 2), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
