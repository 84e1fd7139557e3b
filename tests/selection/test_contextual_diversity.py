"""Contextual diversity against farthest-first traversal on divergences by scipy, one pair at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from pools import check_orders, check_prefixes, generic, pool_of, pool_of_logits, small_pools, softmax, stable
from scipy.special import rel_entr

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.contextual_diversity import contextual_diversity
from dcpipe.types import FloatArray


def divergences(logits: FloatArray) -> FloatArray:
    """D of every pair of rows, [N, N]."""
    p = softmax(logits)
    return np.array([[(rel_entr(a, b).sum() + rel_entr(b, a).sum()) / 2 for b in p] for a in p])


def reference(apart: FloatArray, ipc: int) -> tuple[list[int], list[float]]:
    n, sums = len(apart), apart.sum(axis=1)
    picks = [next(i for i in range(n) if sums[i] <= sums.min() + 1e-9 * max(1e-3, sums.max()))]
    while len(picks) < ipc:
        left = [i for i in range(n) if i not in picks]
        nearest = {i: min(apart[i, j] for j in picks) for i in left}
        picks.append(next(i for i in left if nearest[i] >= (1 - 1e-9) * max(nearest.values()) - 1e-14))
    radii = [float(apart[:, picks[:k]].min(axis=1).max()) for k in range(1, ipc + 1)]
    return picks, [0.0] + [before - after for before, after in pairwise(radii)]


@settings(max_examples=120)
@given(small_pools())
def test_picks_and_gains_are_those_of_the_definition(case: tuple[Candidates, int]) -> None:
    candidates, ipc = case
    picks = contextual_diversity(candidates, ipc, 0, Progress())
    assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64
    for label, offset in enumerate(candidates.offsets[:-1]):
        rows, gains = reference(divergences(candidates.logits[candidates.rows(label)]), ipc)
        assert (picks.rows.reshape(ipc, -1)[:, label] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains.reshape(ipc, -1)[:, label], gains, rtol=0, atol=1e-12)


def test_larger_classes_agree_with_the_definition() -> None:
    candidates = generic([40, 33, 30], 2, 7)
    picks = contextual_diversity(candidates, 30, 4, Progress())
    for label, offset in enumerate((0, 40, 73)):
        rows, gains = reference(divergences(candidates.logits[candidates.rows(label)]), 30)
        assert (picks.rows[label::3] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains[label::3], gains, rtol=0, atol=1e-12)
        assert (np.array(gains) >= 0).all()


def test_one_image_of_each_kind_of_confusion() -> None:
    confused = np.arange(40) % 4
    logits = 3 * np.eye(4)[confused] + 0.1 * stable(40, 4, 3)
    candidates = pool_of_logits(np.vstack([logits] * 4), [40] * 4)
    rows = contextual_diversity(candidates, 4, 0, Progress()).rows[::4]
    assert sorted(confused[rows].tolist()) == [0, 1, 2, 3]


def test_a_sure_teacher_still_tells_images_apart() -> None:
    """Divergences of the order of 1e-13, against the formula of the rare classes alone."""
    logits = np.zeros((12, 3), dtype=np.float64)
    logits[:6, 1:] = stable(6, 2, 4) - 30
    candidates = Candidates(np.ones((12, 1)), logits, np.zeros(12), np.array([0, 6, 9, 12]))
    picks = contextual_diversity(candidates, 3, 0, Progress())
    rare = np.exp(logits[:6, 1:])
    apart = ((rare[:, None] - rare[None]) * (logits[:6, None, 1:] - logits[None, :6, 1:])).sum(axis=2) / 2
    assert 0 < apart.max() < 1e-11
    first = int(apart.sum(axis=1).argmin())
    second = int(apart[first].argmax())
    third = int(np.minimum(apart[first], apart[second]).argmax())
    assert picks.rows[::3].tolist() == [first, second, third]


def test_feature_vectors_are_not_used_and_copies_are_left_for_last_in_row_order() -> None:
    logits = np.repeat(3 * stable(3, 3, 8), 3, axis=0)
    candidates = pool_of(np.full((27, 2), np.nan), np.vstack([logits] * 3), [9, 9, 9])
    picks = contextual_diversity(candidates, 9, 0, Progress())
    rows = picks.rows[::3].tolist()
    assert {row // 3 for row in rows[:3]} == {0, 1, 2}
    assert rows[3:] == sorted(set(range(9)) - set(rows[:3])) and picks.gains[::3][3:].tolist() == [0.0] * 6


@pytest.mark.parametrize("seed", range(5))
def test_smaller_ipc_is_a_prefix_and_the_order_of_rows_does_not_matter(seed: int) -> None:
    candidates = generic([9, 8, 10], 4, 5)
    check_prefixes(contextual_diversity, candidates)
    check_orders(contextual_diversity, candidates, 8, seed)


def test_golden_picks() -> None:
    picks = contextual_diversity(generic([12, 12, 12], 6), 3, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains[3:6], GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [3, 21, 24, 8, 12, 26, 0, 16, 34]
GOLDEN_GAINS = [0.2495345235, 0.7413549419, 0.7429912907]
