"""BADGE against k-means++ seeding on gradient embeddings written out in full."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of, small_pools, stable

from dcpipe.random import philox, uniform
from dcpipe.selection import Candidates, Progress
from dcpipe.selection.badge import badge
from dcpipe.types import DataError, FloatArray

ROUND_OFF = 1e-12


def made(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    n = sum(sizes)
    return pool_of(stable(n, d, seed), 3 * stable(n, len(sizes), seed + 100), sizes)


def embeddings(candidates: Candidates, label: int, bias: bool) -> FloatArray:
    """One gradient per row, of the cross-entropy with the most likely class of each image."""
    own, rows = candidates.rows(label), []
    for logits, vector in zip(candidates.logits[own], candidates.vectors[own], strict=True):
        odds = np.exp(np.float64(logits))
        p = odds / odds.sum()
        error = p - np.eye(len(p))[p.argmax()]
        rows.append(np.concatenate([np.outer(error, np.float64(vector)).reshape(-1), error if bias else []]))
    return np.stack(rows)


def seeding(g: FloatArray, ipc: int, seed: int, label: int) -> tuple[list[int], list[float]]:
    norms = [float(row @ row) for row in g]
    rows = [min(i for i in range(len(g)) if norms[i] >= max(norms) * (1 - ROUND_OFF))]
    gains = [norms[rows[0]]]
    for step in range(1, ipc):
        squared = []
        for i in range(len(g)):
            away = [float(((g[i] - g[j]) ** 2).sum()) for j in rows]
            copies = [d2 <= ROUND_OFF * (norms[i] + norms[j]) for d2, j in zip(away, rows, strict=True)]
            squared.append(0.0 if any(copies) else min(away))
        if sum(squared) == 0:
            rows.append(min(i for i in range(len(g)) if i not in rows))
            gains.append(0.0)
            continue
        number = float(uniform(philox(seed, label, step, 0))[0]) * sum(squared)
        rows.append(min(i for i in range(len(g)) if sum(squared[: i + 1]) > number))
        gains.append(squared[rows[-1]])
    return rows, gains


def reference(candidates: Candidates, ipc: int, seed: int, bias: bool) -> tuple[list[int], list[float]]:
    rows = np.empty((ipc, candidates.n_classes), dtype=np.int64)
    gains = np.empty((ipc, candidates.n_classes))
    for label in range(candidates.n_classes):
        found, gains[:, label] = seeding(embeddings(candidates, label, bias), ipc, seed, label)
        rows[:, label] = np.array(found) + candidates.offsets[label]
    return rows.reshape(-1).tolist(), gains.reshape(-1).tolist()


@settings(deadline=None, max_examples=120)
@given(small_pools(6, -1, 2), st.integers(0, 2**63 - 1), st.booleans())
def test_picks_and_gains_are_those_of_the_seeding_written_out(
    case: tuple[Candidates, int], seed: int, bias: bool
) -> None:
    candidates, ipc = case
    picks = badge(candidates, ipc, seed, Progress(), bias=bias)
    rows, gains = reference(candidates, ipc, seed, bias)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9)


def test_so_are_those_of_larger_classes() -> None:
    candidates = made([40, 30, 25], 5, seed=3)
    for seed in range(5):
        picks = badge(candidates, 20, seed, Progress())
        rows, gains = reference(candidates, 20, seed, False)
        assert picks.rows.tolist() == rows
        np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-12)
    assert picks.rows.dtype == np.int64
    assert picks.gains.dtype == np.float64


def undecided(vectors: list[list[float]]) -> Candidates:
    """Two equal classes, equal logits: e = (-1, 1) / 2 for all, so that distances are those of vectors, by 1/2."""
    return pool_of(np.array(vectors + vectors), np.zeros((2 * len(vectors), 2)), [len(vectors)] * 2)


def test_first_comes_the_longest_gradient_then_one_far_from_the_picks() -> None:
    # Two distant clusters: the second pick is in the other one with odds of four million to one.
    vectors = [[1000.0, 0.0], [1001.0, 0.0], [0.0, 1000.0], [0.0, 999.0]]
    for seed in range(20):
        picks = badge(undecided(vectors), 2, seed, Progress())
        assert picks.rows[0] == 1
        assert picks.rows[2] in (2, 3)
        assert picks.gains[0] == pytest.approx(1001**2 / 2)


def test_a_sure_teacher_makes_a_short_gradient() -> None:
    vectors, logits = np.ones((6, 2)), np.array([[9, 0], [1, 0], [5, 0]] * 2)
    assert badge(pool_of(vectors, logits, [3, 3]), 1, 0, Progress()).rows.tolist() == [1, 4]


def test_the_label_is_the_most_likely_class_whatever_the_true_one() -> None:
    candidates = made([15, 15], 4, seed=6)
    turned = replace(candidates, logits=np.asarray(candidates.logits)[:, ::-1])
    assert badge(turned, 8, 1, Progress()).rows.tolist() == badge(candidates, 8, 1, Progress()).rows.tolist()


def test_draws_are_in_proportion_to_the_squared_distance() -> None:
    # From (4, 0), the longest: squared distances 1 and 9 (0.25 by the distance itself, 0.01 by its fourth power).
    candidates = undecided([[4.0, 0], [3.0, 0], [1.0, 0]])
    seconds = np.array([badge(candidates, 2, seed, Progress()).rows[2] for seed in range(2000)])
    share = 0.1
    assert abs((seconds == 1).mean() - share) < 4 * np.sqrt(share * (1 - share) / 2000)
    assert not (seconds == 0).any()


def test_copies_come_last_in_row_order() -> None:
    vectors = [[2.0, 0], [3.0, 1], [3.0, 1], [0.0, 1], [3.0, 1], [2.0, 0]]
    for seed in range(20):
        rows = badge(undecided(vectors), 6, seed, Progress()).rows[::2].tolist()
        assert rows[0] == 1
        assert {tuple(vectors[row]) for row in rows[:3]} == {(2.0, 0.0), (3.0, 1.0), (0.0, 1.0)}
        assert rows[3:] == sorted(rows[3:])
        assert sorted(rows) == list(range(6))


def test_golden_picks() -> None:
    assert badge(made([12, 12, 12], 6), 4, 0, Progress()).rows.tolist() == GOLDEN[0]
    assert badge(made([12, 12, 12], 6), 4, 1, Progress()).rows.tolist() == GOLDEN[1]


GOLDEN = [[6, 16, 33, 0, 22, 32, 5, 20, 34, 3, 17, 31], [6, 16, 33, 3, 13, 27, 11, 21, 24, 5, 23, 31]]


def test_smaller_ipc_is_a_prefix() -> None:
    candidates = made([9, 8, 10], 4, seed=5)
    full = badge(candidates, 8, 7, Progress())
    for ipc in (1, 3, 7):
        part = badge(candidates, ipc, 7, Progress())
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        assert part.gains.tolist() == full.gains[: 3 * ipc].tolist()


@settings(deadline=None, max_examples=40)
@given(small_pools(6, -1, 2), st.integers(0, 99))
def test_rounds_are_balanced_and_nothing_comes_twice(case: tuple[Candidates, int], seed: int) -> None:
    candidates, ipc = case
    picks = badge(candidates, ipc, seed, Progress())
    labels = np.searchsorted(candidates.offsets, picks.rows, side="right") - 1
    assert labels.tolist() == list(range(candidates.n_classes)) * ipc
    assert len(set(picks.rows.tolist())) == len(picks.rows)
    assert (picks.gains >= 0).all()


def test_the_order_of_rows_changes_the_draws_but_not_the_first() -> None:
    candidates, order = made([30, 30], 4, seed=9), np.concatenate([np.arange(29, -1, -1), np.arange(30, 60)])
    moved = pool_of(np.asarray(candidates.vectors)[order], np.asarray(candidates.logits)[order], [30, 30])
    picks, again = badge(candidates, 6, 0, Progress()).rows, order[badge(moved, 6, 0, Progress()).rows]
    assert picks[:2].tolist() == again[:2].tolist()
    assert picks[2::2].tolist() != again[2::2].tolist()
    assert picks[3::2].tolist() == again[3::2].tolist()


def test_classes_and_seeds_draw_differently() -> None:
    own = stable(20, 4)
    twice = pool_of(np.vstack([own, own]), np.zeros((40, 2)), [20, 20])
    rows = badge(twice, 8, 0, Progress()).rows.reshape(8, 2)
    assert rows[0, 0] == rows[0, 1] - 20
    assert rows[:, 0].tolist() != (rows[:, 1] - 20).tolist()
    assert rows[:, 0].tolist() != badge(twice, 8, 1, Progress()).rows.reshape(8, 2)[:, 0].tolist()


def test_progress_is_reported_for_each_class() -> None:
    told: list[tuple[int, int]] = []
    badge(made([4, 5], 3), 3, 0, Progress(progress=lambda done, total: told.append((done, total))))
    assert told == [(3, 6), (6, 6)]


def test_more_images_than_a_class_has_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        badge(made([5, 3], 2), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
