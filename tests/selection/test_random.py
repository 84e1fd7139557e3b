"""The random selector: balanced, reproducible, and with nested sizes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_vectors

from dcpipe.selection import Candidates, Picks, Progress
from dcpipe.selection.random import random


def candidates_of(sizes: list[int]) -> Candidates:
    return pool_of_vectors(np.zeros((sum(sizes), 2)), sizes)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**63 - 1), st.data())
def test_rounds_are_balanced_distinct_and_nested(sizes: list[int], seed: int, data: st.DataObject) -> None:
    candidates = candidates_of(sizes)
    ipc = data.draw(st.integers(1, min(sizes)))
    picks = random(candidates, ipc, seed, Progress())
    labels = np.searchsorted(candidates.offsets, picks.rows, side="right") - 1
    assert labels.tolist() == list(range(len(sizes))) * ipc
    assert len(set(picks.rows.tolist())) == ipc * len(sizes)
    assert picks.gains.tolist() == [0.0] * len(picks.rows)
    smaller = random(candidates, max(1, ipc - 1), seed, Progress())
    assert smaller.rows.tolist() == picks.rows[: len(smaller.rows)].tolist()


def test_a_whole_class_is_a_permutation() -> None:
    picks = random(candidates_of([7, 7]), 7, 1, Progress())
    assert sorted(picks.rows.tolist()) == list(range(14))


def test_golden_picks() -> None:
    assert random(candidates_of([10, 10, 10]), 3, 0, Progress()).rows.tolist() == GOLDEN[0]
    assert random(candidates_of([10, 10, 10]), 3, 1, Progress()).rows.tolist() == GOLDEN[1]


GOLDEN = [[4, 11, 23, 1, 10, 28, 0, 19, 29], [4, 18, 24, 2, 16, 21, 0, 19, 25]]


def test_every_row_is_picked_equally_often() -> None:
    rows = [random(candidates_of([5]), 2, seed, Progress()).rows for seed in range(2000)]
    counts = np.bincount(np.concatenate(rows), minlength=5)
    assert np.abs(counts - 800).max() < 5 * np.sqrt(2000 * 0.4 * 0.6)


def test_classes_are_shuffled_differently() -> None:
    rows = random(candidates_of([50, 50]), 50, 0, Progress()).rows.reshape(50, 2)
    assert (rows[:, 0] != rows[:, 1] - 50).any()


def test_each_round_is_reported_and_earlier_picks_change_nothing() -> None:
    reports: list[Picks] = []
    whole = random(candidates_of([4, 5]), 3, 2, Progress(report=reports.append))
    assert [report.rows.tolist() for report in reports] == [whole.rows[:end].tolist() for end in (2, 4, 6)]
    assert random(candidates_of([4, 5]), 3, 2, Progress(earlier=reports[0])).rows.tolist() == whole.rows.tolist()
