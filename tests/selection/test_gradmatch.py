"""GRAD-MATCH against orthogonal matching pursuit on gradients written out in full."""

from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of, small_pools, softmax, stable, written_out

from dcpipe.random import Draw, permutation
from dcpipe.selection import Candidates, Picks, Progress
from dcpipe.selection.gradmatch import gradmatch
from dcpipe.types import DataError, FloatArray

TIE = 1e-10


def made(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    n = sum(sizes)
    return pool_of(stable(n, d, seed), 3 * stable(n, len(sizes), seed + 100), sizes)


def least_squares(g: FloatArray, b: FloatArray, ridge: float) -> tuple[float, FloatArray]:
    """The least |g^T w - b|^2 + ridge |w|^2 and its w."""
    tall = np.vstack([g.T, np.sqrt(ridge) * np.eye(len(g))])
    aim = np.concatenate([b, np.zeros(len(g))])
    w = np.linalg.lstsq(tall, aim)[0]
    return float(((tall @ w - aim) ** 2).sum()), w


def best_weights(g: FloatArray, b: FloatArray, ridge: float, non_negative: bool) -> tuple[float, FloatArray]:
    """The same; where weights must not be negative, the best of all sets of weights that may differ from 0."""
    if not non_negative:
        return least_squares(g, b, ridge)
    best = (float((b**2).sum()), np.zeros(len(g)))
    everyone = range(len(g))
    for chosen in chain.from_iterable(combinations(everyone, r) for r in range(1, len(g) + 1)):
        error, w = least_squares(g[list(chosen)], b, ridge)
        if (w >= 0).all() and error < best[0]:
            full = np.zeros(len(g))
            full[list(chosen)] = w
            best = (error, full)
    return best


def pursuit(
    g: FloatArray, ipc: int, fill: list[int], ridge: float, non_negative: bool
) -> tuple[list[int], list[float]]:
    b = g.mean(axis=0)
    lengths = np.sqrt((g**2).sum(axis=1))
    least = TIE * lengths.max() * lengths.mean()
    rows: list[int] = []
    gains: list[float] = []
    error, residual = float(b @ b), b
    while len(rows) < ipc:
        merit = {i: float(g[i] @ residual) for i in range(len(g)) if i not in rows}
        if not non_negative:
            merit = {i: abs(value) for i, value in merit.items()}
        if max(merit.values()) <= least:
            rest = [row for row in fill if row not in rows][: ipc - len(rows)]
            return rows + rest, gains + [0.0] * len(rest)
        rows.append(min(i for i, value in merit.items() if value >= max(merit.values()) - least))
        now, w = best_weights(g[rows], b, ridge, non_negative)
        gains.append(error - now)
        error, residual = now, b - w @ g[rows]
    return rows, gains


def reference(
    candidates: Candidates, ipc: int, seed: int, ridge: float, non_negative: bool, bias: bool
) -> tuple[list[int], list[float]]:
    rows = np.empty((ipc, candidates.n_classes), dtype=np.int64)
    gains = np.empty((ipc, candidates.n_classes))
    for label in range(candidates.n_classes):
        own = candidates.rows(label)
        n = own.stop - own.start
        g = written_out(softmax(candidates.logits[own]), candidates.vectors[own], [label] * n, bias)
        fill = permutation(seed, label, n, draw=Draw.GRADMATCH_FILL).tolist()
        found, gains[:, label] = pursuit(g, ipc, fill, ridge, non_negative)
        rows[:, label] = np.array(found) + own.start
    return rows.reshape(-1).tolist(), gains.reshape(-1).tolist()


@settings(deadline=None, max_examples=120)
@given(small_pools(6, -1, 2), st.sampled_from([0.0, 0.01, 0.5, 100.0]), st.booleans(), st.booleans(), st.integers(0, 9))
def test_picks_and_gains_are_those_of_the_pursuit_written_out(
    case: tuple[Candidates, int], ridge: float, non_negative: bool, bias: bool, seed: int
) -> None:
    candidates, ipc = case
    picks = gradmatch(candidates, ipc, seed, Progress(), ridge=ridge, non_negative=non_negative, bias=bias)
    rows, gains = reference(candidates, ipc, seed, ridge, non_negative, bias)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9)


@pytest.mark.parametrize("non_negative", [True, False])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_so_are_those_of_larger_classes(ridge: float, non_negative: bool) -> None:
    candidates = made([30, 25, 8], 5, seed=3)
    picks = gradmatch(candidates, 8, 0, Progress(), ridge=ridge, non_negative=non_negative)
    rows, gains = reference(candidates, 8, 0, ridge, non_negative, True)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9)
    assert picks.rows.dtype == np.int64
    assert picks.gains.dtype == np.float64


def axes(lengths: list[float]) -> Candidates:
    """One class of two, the teacher undecided: gradients along an axis each, |g|^2 = length^2 / 2 without the bias."""
    vectors = np.vstack([np.diag(lengths), np.ones((len(lengths), len(lengths)))])
    return pool_of(vectors, np.zeros((2 * len(lengths), 2)), [len(lengths)] * 2)


def of_class_0(picks: Picks) -> list[int]:
    return picks.rows[::2].tolist()


def test_orthogonal_gradients_are_picked_from_the_longest_on() -> None:
    picks = gradmatch(axes([1.0, 3.0, 0.5, 2.0]), 4, 0, Progress(), ridge=0.0, bias=False)
    assert of_class_0(picks) == [1, 3, 0, 2]
    np.testing.assert_allclose(picks.gains[::2], np.array([9, 4, 1, 0.25]) / 2 / 16, rtol=1e-12)


@pytest.mark.parametrize("non_negative", [True, False])
def test_a_copy_of_a_pick_waits_for_all_that_is_new(non_negative: bool) -> None:
    vectors = np.array([[5, 0, 0], [0, 2, 0], [5, 0, 0], [0, 0, 1], [0, 0, 0]])
    candidates = pool_of(np.vstack([vectors, vectors]), np.zeros((10, 2)), [5, 5])
    picks = gradmatch(candidates, 5, 0, Progress(), ridge=0.0, non_negative=non_negative, bias=False)
    assert of_class_0(picks)[:3] == [0, 1, 3]
    # Nothing is left: the copy and the zero come in the order of the shuffled class.
    assert of_class_0(picks)[3:] == [
        row for row in permutation(0, 0, 5, draw=Draw.GRADMATCH_FILL).tolist() if row in (2, 4)
    ]
    assert picks.gains[6:].tolist() == [0.0] * 4


def test_a_ridge_far_above_the_gradients_turns_the_pursuit_into_a_ranking() -> None:
    vectors = np.array([[5, 0], [0, 2], [5, 0], [5, 0]])
    candidates = pool_of(np.vstack([vectors, vectors]), np.zeros((8, 2)), [4, 4])
    assert of_class_0(gradmatch(candidates, 3, 0, Progress(), bias=False, ridge=1e6)) == [0, 2, 3]
    assert of_class_0(gradmatch(candidates, 2, 0, Progress(), bias=False, ridge=1e-6)) == [0, 1]


def test_only_weights_of_any_sign_pick_an_image_to_be_subtracted() -> None:
    # The mean is along (7, 6); once (4, 4) is fitted (1, -1) is left, of which (0, 2) has most, with a negative sign.
    vectors = np.array([[4, 4], [0, 2], [1, 0], [1, 0], [1, 0]])
    candidates = pool_of(np.vstack([vectors, vectors]), np.zeros((10, 2)), [5, 5])
    assert of_class_0(gradmatch(candidates, 2, 0, Progress(), ridge=0.0, bias=False)) == [0, 2]
    assert of_class_0(gradmatch(candidates, 2, 0, Progress(), ridge=0.0, bias=False, non_negative=False)) == [0, 1]


def test_golden_picks() -> None:
    picks = gradmatch(made([12, 12, 12], 6), 4, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains, GOLDEN_GAINS, rtol=0, atol=1e-9)


GOLDEN_ROWS = [0, 16, 25, 2, 19, 24, 5, 23, 29, 6, 12, 33]
GOLDEN_GAINS = [
    0.2245094762,
    0.3095735017,
    0.3819789896,
    0.1783169595,
    0.1805432471,
    0.1069787011,
    0.0513051916,
    0.0619856619,
    0.0486578211,
    0.0494325392,
    0.0274111908,
    0.0281131843,
]


@pytest.mark.parametrize("non_negative", [True, False])
def test_smaller_ipc_is_a_prefix(non_negative: bool) -> None:
    candidates = made([9, 8, 10], 2, seed=5)
    full = gradmatch(candidates, 8, 4, Progress(), ridge=0.0, non_negative=non_negative)
    assert (full.gains == 0).any(), "the filled places are to be among them"
    for ipc in (1, 3, 7):
        part = gradmatch(candidates, ipc, 4, Progress(), ridge=0.0, non_negative=non_negative)
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        assert part.gains.tolist() == full.gains[: 3 * ipc].tolist()


@settings(deadline=None, max_examples=40)
@given(small_pools(6, -1, 2), st.sampled_from([0.0, 0.5]), st.booleans())
def test_rounds_are_balanced_nothing_comes_twice_and_no_pick_hurts(
    case: tuple[Candidates, int], ridge: float, non_negative: bool
) -> None:
    candidates, ipc = case
    picks = gradmatch(candidates, ipc, 0, Progress(), ridge=ridge, non_negative=non_negative)
    labels = np.searchsorted(candidates.offsets, picks.rows, side="right") - 1
    assert labels.tolist() == list(range(candidates.n_classes)) * ipc
    assert len(set(picks.rows.tolist())) == len(picks.rows)
    assert (picks.gains >= -1e-12).all()


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(10)), st.permutations(range(10, 20)))
def test_row_order_does_not_matter_where_nothing_ties(first: list[int], second: list[int]) -> None:
    candidates, order = made([10, 10], 6, seed=9), np.array(first + second)
    moved = pool_of(np.asarray(candidates.vectors)[order], np.asarray(candidates.logits)[order], [10, 10])
    picks, again = gradmatch(candidates, 5, 0, Progress()), gradmatch(moved, 5, 0, Progress())
    assert picks.rows.tolist() == order[again.rows].tolist()


@pytest.mark.parametrize("ridge", [0.0, 0.25])
def test_the_ridge_counts_against_the_squared_length_of_gradients(ridge: float) -> None:
    candidates = made([20, 20], 6, seed=8)
    longer = replace(candidates, vectors=np.asarray(candidates.vectors) * 8)
    here = gradmatch(candidates, 9, 0, Progress(), ridge=ridge, bias=False)
    there = gradmatch(longer, 9, 0, Progress(), ridge=64 * ridge, bias=False)
    assert here.rows.tolist() == there.rows.tolist()
    np.testing.assert_allclose(there.gains, 64 * here.gains, rtol=1e-9)


def test_the_seed_fills_up_and_does_no_more() -> None:
    candidates = made([10, 10], 6, seed=2)
    assert (
        gradmatch(candidates, 6, 0, Progress()).rows.tolist() == gradmatch(candidates, 6, 1, Progress()).rows.tolist()
    )
    sure = np.tile(np.array([900.0, -900.0]), (20, 1))  # of class 0 the gradients are 0
    picks = gradmatch(replace(candidates, logits=sure), 6, 5, Progress(), ridge=0.0)
    assert of_class_0(picks) == permutation(5, 0, 10, draw=Draw.GRADMATCH_FILL)[:6].tolist()


def test_progress_is_reported_for_each_class() -> None:
    told: list[tuple[int, int]] = []
    gradmatch(made([4, 5], 3), 3, 0, Progress(progress=lambda done, total: told.append((done, total))))
    assert told == [(3, 6), (6, 6)]


def test_a_negative_ridge_is_refused() -> None:
    with pytest.raises(DataError) as error:
        gradmatch(made([3, 3], 2), 1, 0, Progress(), ridge=-0.5)
    assert str(error.value) == "selector 'gradmatch': ridge is -0.5: input should be greater than or equal to 0"


def test_more_images_than_a_class_has_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        gradmatch(made([5, 3], 2), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
