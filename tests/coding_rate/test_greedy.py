"""The greedy choice on arrays: killed runs go on alike, one class is read at a time, strangers are refused.

That its picks and gains are those of Eq. 4 is tested with the selector that it serves, in `selection/test_score.py`.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pools import stable

from dcpipe.coding_rate.greedy import _Scorer, greedy
from dcpipe.coding_rate.pool import Pool
from dcpipe.coding_rate.rate import Rate
from dcpipe.coding_rate.state import Objective
from dcpipe.types import DataError, FloatArray, IntArray

SCORE = {"alpha": 5.0, "beta": 1.0, "eps2": 0.5}


def arrays(sizes: list[int], d: int, seed: int = 0) -> tuple[FloatArray, IntArray, FloatArray]:
    """Vectors f32 sorted by class, offsets of the classes, and a label rate of each."""
    n = sum(sizes)
    vectors = stable(n, d, seed).astype(np.float32)
    return vectors, np.concatenate([[0], np.cumsum(sizes)]), stable(n, 1, seed + 100)[:, 0] + 1


@pytest.mark.parametrize("final", [None, 7])
@pytest.mark.parametrize("kept", [0, 2, 3, 7, 12, 21])
def test_a_killed_run_goes_on_with_identical_picks(final: int | None, kept: int) -> None:
    some, objective = arrays([9, 8, 10], 4, seed=13), Objective(**SCORE, final=final)
    rows, gains = greedy(*some, 21, objective)
    resumed, same = greedy(*some, 21, objective, earlier=(rows[:kept], gains[:kept]))
    assert resumed.tolist() == rows.tolist()
    np.testing.assert_allclose(same, gains, rtol=0, atol=1e-12)


@pytest.mark.parametrize("by_turns", [True, False])
@pytest.mark.parametrize("kept", [3, 30, 32, 33, 47, 48, 70])
def test_a_killed_run_ends_with_the_same_bytes(kept: int, by_turns: bool) -> None:
    """Before the first basis (32 picks for d = 64), at it, between two, and after the second."""
    some, objective = arrays([60, 70, 50], 64, seed=21), Objective(**SCORE, by_turns=by_turns)
    rows, gains = greedy(*some, 75, objective)
    resumed, same = greedy(*some, 75, objective, earlier=(rows[:kept], gains[:kept]))
    assert resumed.tolist() == rows.tolist() and same.tolist() == gains.tolist()


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_candidates_that_are_not_evaluated_would_not_have_been_picked(
    alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bounds that say nothing, every candidate is evaluated in every step; the picks are the same."""
    some, objective = arrays([150, 140], 16, seed=22), Objective(alpha, 0.0, 0.5)
    evaluated: list[int] = []
    term = _Scorer.term

    def counted(scorer: _Scorer, label: int, rows: slice | IntArray) -> FloatArray:
        found = term(scorer, label, rows)
        evaluated.append(len(found))
        return found

    monkeypatch.setattr(_Scorer, "term", counted)
    rows, gains = greedy(*some, 100, objective)
    few = sum(evaluated)
    evaluated.clear()
    monkeypatch.setattr(sys.modules[_Scorer.__module__], "_FIRST", 1000)
    everything, same = greedy(*some, 100, objective)
    assert everything.tolist() == rows.tolist() and np.abs(gains - same).max() < 1e-12
    assert few < 0.6 * sum(evaluated)


def test_each_round_is_reported_and_reports_are_not_overwritten() -> None:
    reports: list[tuple[IntArray, FloatArray]] = []
    rows, gains = greedy(
        *arrays([6, 6], 3, seed=14), 8, Objective(**SCORE), report=lambda *so_far: reports.append(so_far)
    )
    assert [len(some) for some, _ in reports] == [2, 4, 6, 8]
    for some, their_gains in reports:
        assert some.tolist() == rows[: len(some)].tolist() and their_gains.tolist() == gains[: len(some)].tolist()


class Recording:
    """Hands out rows like a memory map, and remembers which."""

    def __init__(self, array: FloatArray) -> None:
        self.array, self.asked = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index: Any) -> FloatArray:
        self.asked.append(index)
        return self.array[index]


def test_vectors_are_read_one_class_at_a_time() -> None:
    vectors, offsets, rates = arrays([5, 6, 7], 3)
    recording = Recording(vectors)
    greedy(recording, offsets, rates, 6, Objective(**SCORE))
    whole = [slice(int(a), int(b)) for a, b in pairwise(offsets)]
    assert [index for index in recording.asked if type(index) is slice] == 2 * whole
    owners = [set(np.searchsorted(offsets, np.r_[index], side="right") - 1) for index in recording.asked]
    assert all(len(labels) <= 1 for labels in owners)


def test_images_that_a_shortlist_left_out_are_no_candidates() -> None:
    vectors, offsets, rates = arrays([6, 6], 3)
    rates[[0, 3, 7, 11]] = np.inf
    rows, _ = greedy(vectors, offsets, rates, 8, Objective(**SCORE))
    assert sorted(rows.tolist()) == [1, 2, 4, 5, 6, 8, 9, 10]


def test_vectors_that_are_not_finite_are_an_error() -> None:
    vectors, offsets, rates = arrays([3, 3], 2)
    vectors[4, 1] = np.nan
    with pytest.raises(DataError) as error:
        greedy(vectors, offsets, rates, 2, Objective(**SCORE))
    assert str(error.value) == "candidates: vectors of class 1 contain NaN or infinity; extract the features again"


@pytest.mark.parametrize("rows", [[3], [0, 1], [0, 3, 0], [0, 3, 1, 4, 2]])
def test_earlier_picks_of_something_else_are_an_error(rows: list[int]) -> None:
    """Of another class's turn, of a class twice, of one image twice, and more than are wanted."""
    earlier = np.array(rows, dtype=np.int64), np.zeros(len(rows))
    with pytest.raises(DataError) as error:
        greedy(*arrays([3, 3], 2), 4, Objective(**SCORE), earlier=earlier)
    assert str(error.value) == (
        f"selection: the {len(rows)} picks of an earlier run are not the first of 4 picks from these candidates; "
        "run `dcpipe clean` and select again"
    )


def test_the_work_of_a_step_does_not_grow_with_the_picks_of_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first d / 2 picks, only the picks of the class and those since the last basis are looked at."""
    d, n_classes, ipc = 16, 60, 4
    some, objective = arrays([6] * n_classes, d, seed=31), Objective(**SCORE)
    factorised, multiplied = list[int](), list[int]()
    of_gram, products = Rate.of_gram, Pool.products

    def counted_gram(gram: torch.Tensor, c: float) -> Rate:
        factorised.append(len(gram))
        return of_gram(gram, c)

    def counted_products(pool: Pool, label: int, picks: torch.Tensor) -> torch.Tensor:
        multiplied.append(len(picks))
        return products(pool, label, picks)

    monkeypatch.setattr(Rate, "of_gram", staticmethod(counted_gram))
    monkeypatch.setattr(Pool, "products", counted_products)
    greedy(*some, ipc * n_classes, objective)
    late = len(factorised) // 4  # all but the first quarter of the picks
    period = max(8, d // 8)
    assert max(factorised[late:]) <= max(period, ipc) and max(factorised) <= d
    assert len(factorised) <= 4 * ipc * n_classes, "a few factors a step, whatever the number of picks"
    assert max(multiplied[len(multiplied) // 4 :]) <= ipc and len(multiplied) <= 2 * ipc * n_classes
