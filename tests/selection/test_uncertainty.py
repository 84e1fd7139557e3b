"""The four scores against their formulas, image by image, and properties of the ranking."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_logits, stable

from dcpipe.random import philox, uniform
from dcpipe.selection import Candidates, Picks, Progress
from dcpipe.selection.uncertainty import el2n, entropy, least_confidence, margin
from dcpipe.types import DataError, FloatArray

ALL: dict[str, Callable[..., Picks]] = {
    "least_confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
    "el2n": el2n,
}
ORDERS = ("hard", "easy")


def made(sizes: list[int], seed: int = 0) -> Candidates:
    """Logits that mostly favour the true class."""
    logits = 3 * stable(sum(sizes), len(sizes), seed)
    logits += 2 * np.eye(len(sizes))[np.repeat(np.arange(len(sizes)), sizes)]
    return pool_of_logits(logits.astype(np.float32), sizes)


def defined(name: str, logits: FloatArray, label: int) -> float:
    """A score of one image, from its formula."""
    powers = [math.exp(float(z)) for z in logits]
    p = [power / math.fsum(powers) for power in powers]
    if name == "least_confidence":
        return 1 - max(p)
    if name == "margin":
        first, second = sorted([*p, 0.0], reverse=True)[:2]
        return 1 - (first - second)
    if name == "entropy":
        return -math.fsum(x * math.log(x) for x in p)
    return math.sqrt(math.fsum((x - (j == label)) ** 2 for j, x in enumerate(p)))


def scores_of(name: str, candidates: Candidates) -> FloatArray:
    labels = np.repeat(np.arange(candidates.n_classes), np.diff(candidates.offsets))
    return np.array([defined(name, z, y) for z, y in zip(np.asarray(candidates.logits), labels, strict=True)])


@st.composite
def small_candidates(draw: Callable[..., object]) -> tuple[Candidates, int]:
    """Integer logits, so that copies and ties are common; ipc up to the smallest class."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    n, c = sum(sizes), len(sizes)
    numbers = draw(st.lists(st.integers(-9, 9), min_size=n * c, max_size=n * c))
    return pool_of_logits(np.array(numbers, dtype=np.float32).reshape(n, c), sizes), draw(st.integers(1, min(sizes)))


@settings(deadline=None, max_examples=200)
@given(small_candidates(), st.sampled_from(sorted(ALL)), st.sampled_from(ORDERS))
def test_each_class_is_ranked_by_the_formula(case: tuple[Candidates, int], name: str, order: str) -> None:
    candidates, ipc = case
    picks = ALL[name](candidates, ipc, 0, Progress(), order=order)
    assert picks.rows.dtype == np.int64
    assert picks.gains.dtype == np.float64
    expected = scores_of(name, candidates)
    np.testing.assert_allclose(picks.gains, expected[picks.rows], rtol=0, atol=1e-12)
    logits = np.asarray(candidates.logits)
    for label in range(candidates.n_classes):
        own = candidates.rows(label)
        rows = picks.rows.reshape(ipc, -1)[:, label].tolist()
        assert len(set(rows)) == ipc
        assert all(own.start <= row < own.stop for row in rows)
        ranked = np.sort(expected[own])[:: -1 if order == "hard" else 1][:ipc]
        np.testing.assert_allclose(expected[rows], ranked, rtol=0, atol=1e-12)
        for row in rows:  # of copies, the lower rows come first
            copies = [r for r in range(own.start, row) if (logits[r] == logits[row]).all()]
            assert all(copy in rows[: rows.index(row)] for copy in copies)


@pytest.mark.parametrize("name", sorted(ALL))
def test_golden_picks(name: str) -> None:
    candidates = made([12, 12, 12])
    hard, easy = (ALL[name](candidates, 2, 0, Progress(), order=order) for order in ORDERS)
    assert [hard.rows.tolist(), easy.rows.tolist()] == GOLDEN_ROWS[name]
    np.testing.assert_allclose(hard.gains[:3], GOLDEN_GAINS[name], rtol=0, atol=1e-8)


GOLDEN_ROWS = {
    "least_confidence": [[1, 23, 24, 9, 12, 28], [4, 20, 25, 2, 17, 31]],
    "margin": [[1, 12, 28, 9, 13, 24], [4, 20, 25, 2, 17, 31]],
    "entropy": [[1, 23, 24, 0, 15, 27], [4, 20, 25, 2, 17, 31]],
    "el2n": [[6, 15, 34, 7, 23, 27], [4, 20, 25, 2, 17, 31]],
}
GOLDEN_GAINS = {
    "least_confidence": [0.4552557769, 0.4030908046, 0.5492650977],
    "margin": [0.8819392545, 0.7479097314, 0.9776276341],
    "entropy": [0.7958942192, 0.9332728992, 1.0309416559],
    "el2n": [1.2491181607, 1.1265443971, 1.1494989644],
}


@pytest.mark.parametrize(
    ("name", "sure", "torn", "lost", "wrong"),
    [
        ("least_confidence", 0, 1 / 2, 3 / 4, 0),
        ("margin", 0, 1, 1, 0),
        ("entropy", 0, math.log(2), math.log(4), 0),
        ("el2n", 0, math.sqrt(1 / 2), math.sqrt(3 / 4), math.sqrt(2)),
    ],
)
def test_known_scores(name: str, sure: float, torn: float, lost: float, wrong: float) -> None:
    never = -2000.0  # a probability that underflows to 0
    own = [[0, never, never, never], [0, 0, never, never], [0, 0, 0, 0], [never, 0, never, never]]
    logits = np.array(own + [[0, 0, 0, 0]] * 12, dtype=np.float32)
    picks = ALL[name](pool_of_logits(logits, [4, 4, 4, 4]), 4, 0, Progress())
    gains = dict(zip(picks.rows[::4].tolist(), picks.gains[::4].tolist(), strict=True))
    assert [gains[row] for row in range(4)] == pytest.approx([sure, torn, lost, wrong], abs=1e-15)


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_teacher_sure_of_all_images_still_ranks_them(name: str) -> None:
    # 1 - p is below 1e-17 for each, so that 1.0 - p[0] is 0.0 for all.
    leads = np.array([41.0, 40.0, 60.0, 50.0])
    logits = np.stack([leads, np.zeros(4), np.zeros(4)], axis=1)
    logits = np.concatenate([logits, np.zeros((8, 3))])
    hard, easy = (ALL[name](pool_of_logits(logits, [4, 4, 4]), 4, 0, Progress(), order=order) for order in ORDERS)
    assert hard.rows[::3].tolist() == [1, 0, 3, 2]
    assert easy.rows[::3].tolist() == [2, 3, 0, 1]
    rest = 2 * np.exp(-leads)
    factor = {"least_confidence": 1, "margin": 1.5, "entropy": leads + 1, "el2n": math.sqrt(1.5)}[name]
    np.testing.assert_allclose(hard.gains[::3], (rest * factor)[[1, 0, 3, 2]], rtol=1e-12)


def test_two_classes_give_one_ranking() -> None:
    # Where the teacher is right, all four fall as p_1 rises.
    logits = np.stack([uniform(philox(1, np.arange(30), 0, 0))[:, 0] + 0.01, np.zeros(30)], axis=1)
    logits[15:] = logits[15:, ::-1]
    rows = {tuple(pick(pool_of_logits(logits, [15, 15]), 15, 0, Progress()).rows.tolist()) for pick in ALL.values()}
    assert len(rows) == 1


def test_only_el2n_sees_a_wrong_label() -> None:
    logits = np.array([[9.0, 0, 0], [0, 9, 0], [1, 1, 1]])
    for name, pick in ALL.items():
        rows = pick(pool_of_logits(np.concatenate([logits] * 3), [3, 3, 3]), 1, 0, Progress()).rows.tolist()
        assert rows[0] == (1 if name == "el2n" else 2)


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("order", ORDERS)
def test_smaller_ipc_is_a_prefix_and_orders_mirror(name: str, order: str) -> None:
    candidates = made([9, 8, 8], seed=2)
    full = ALL[name](candidates, 8, 0, Progress(), order=order)
    for ipc in (1, 3, 7):
        part = ALL[name](candidates, ipc, 5, Progress(), order=order)
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        assert part.gains.tolist() == full.gains[: 3 * ipc].tolist()
    other = ALL[name](candidates, 8, 0, Progress(), order="easy" if order == "hard" else "hard")
    assert other.rows.reshape(8, 3)[::-1, 1:].tolist() == full.rows.reshape(8, 3)[:, 1:].tolist()


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(ALL)), st.permutations(range(10)), st.permutations(range(10, 20)))
def test_row_order_does_not_matter_where_nothing_ties(name: str, first: list[int], second: list[int]) -> None:
    candidates, order = made([10, 10], seed=3), np.array(first + second)
    moved = replace(candidates, logits=np.asarray(candidates.logits)[order])
    picks, again = (ALL[name](c, 10, 0, Progress()) for c in (candidates, moved))
    assert picks.rows.tolist() == order[again.rows].tolist()


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_constant_added_to_all_logits_of_an_image_changes_nothing(name: str) -> None:
    candidates = made([10, 10, 10], seed=4)
    logits = np.asarray(candidates.logits, dtype=np.float64)
    moved = logits + np.arange(-15, 15)[:, None] * 64
    picks, again = (ALL[name](replace(candidates, logits=z), 10, 0, Progress()) for z in (logits, moved))
    assert again.rows.tolist() == picks.rows.tolist()
    np.testing.assert_allclose(again.gains, picks.gains, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ALL))
def test_inputs_stay_and_progress_is_reported(name: str) -> None:
    candidates = made([6, 6], seed=5)
    before = np.asarray(candidates.logits).copy()
    told: list[tuple[int, int]] = []
    ALL[name](candidates, 4, 0, Progress(progress=lambda done, total: told.append((done, total))))
    assert np.array_equal(candidates.logits, before)
    assert told == [(4, 8), (8, 8)]


@pytest.mark.parametrize("name", sorted(ALL))
def test_errors_name_the_option_and_the_remedy(name: str) -> None:
    with pytest.raises(DataError) as error:
        ALL[name](made([3, 3]), 1, 0, Progress(), order="middle")
    assert str(error.value) == f"selector {name!r}: order is 'middle': input should be 'hard' or 'easy'"
    with pytest.raises(DataError) as error:
        ALL[name](made([5, 3]), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
