"""Graph cut against its definition, pair by pair, and against apricot."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import check_orders, check_prefixes, generic, pool_of_vectors, small_pools, stable

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.graph_cut import graph_cut
from dcpipe.types import DataError, FloatArray


def similarities(vectors: FloatArray) -> FloatArray:
    """1 + cos of every pair, one at a time."""
    units = [x / np.sqrt(x @ x) if x @ x > 0 else x for x in np.asarray(vectors, dtype=np.float64)]
    return np.array([[1 + a @ b for b in units] for a in units])


def value(similar: FloatArray, picks: list[int], lam: float) -> float:
    whole = sum(similar[i, s] for i in range(len(similar)) for s in picks)
    return float(whole - lam * sum(similar[s, t] for s in picks for t in picks))


def reference(similar: FloatArray, ipc: int, lam: float) -> tuple[list[int], list[float]]:
    rows: list[int] = []
    gains: list[float] = []
    for _ in range(ipc):
        before = value(similar, rows, lam)
        gain = {i: value(similar, [*rows, i], lam) - before for i in range(len(similar)) if i not in rows}
        rows.append(next(i for i in gain if gain[i] >= max(gain.values()) - 1e-10))
        gains.append(gain[rows[-1]])
    return rows, gains


@settings(max_examples=120)
@given(small_pools(), st.sampled_from([0.0, 0.25, 0.5, 1.0, 7.0]))
def test_picks_gains_and_the_bound_are_those_of_the_definition(case: tuple[Candidates, int], lam: float) -> None:
    candidates, ipc = case
    picks = graph_cut(candidates, ipc, 0, Progress(), lam=lam)
    assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64
    for label, offset in enumerate(candidates.offsets[:-1]):
        similar = similarities(candidates.vectors[candidates.rows(label)])
        rows, gains = reference(similar, ipc, lam)
        assert (picks.rows.reshape(ipc, -1)[:, label] - offset).tolist() == rows
        found = picks.gains.reshape(ipc, -1)[:, label]
        np.testing.assert_allclose(found, gains, rtol=0, atol=1e-10)
        assert (np.diff(found) <= 1e-10).all()  # submodular
        if lam <= 0.5:
            assert (found >= -1e-10).all()  # monotone
            best = max(value(similar, list(subset), lam) for subset in combinations(range(len(similar)), ipc))
            assert value(similar, rows, lam) >= (1 - 1 / np.e) * best - 1e-9


# From GraphCutSelection of apricot-select 0.6.1 for the same similarities: alpha = 1 / lam, and its gains times lam.
APRICOT = {
    0.5: (
        [18, 31, 12, 35, 22, 33, 24, 3],
        [62.648173, 60.49522325, 57.82275667, 55.52442855, 53.17078478, 51.40537936, 49.41661884, 47.12866668],
    ),
    1.0: (
        [18, 31, 12, 35, 24, 22, 33, 3],
        [61.648173, 57.51539074, 52.96212096, 48.92610453, 44.94718279, 41.3107282, 37.73353712, 33.76942565],
    ),
    4.0: (
        [18, 31, 35, 16, 4, 23, 9, 20],
        [55.648173, 39.63639566, 24.61268721, 10.83455378, 2.89593217, -2.82609274, -14.16956614, -21.58444869],
    ),
}


@pytest.mark.parametrize("lam", APRICOT)
def test_picks_and_gains_are_those_of_apricot(lam: float) -> None:
    picks = graph_cut(pool_of_vectors(stable(40, 6, 1) + 0.5, [40]), 8, 0, Progress(), lam=lam)
    rows, gains = APRICOT[lam]
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-6)


def test_with_lam_one_it_is_the_value_of_a_cut() -> None:
    candidates = generic([15, 12], 4, 2)
    picks = graph_cut(candidates, 5, 0, Progress())
    for label, offset in enumerate((0, 15)):
        similar = similarities(candidates.vectors[candidates.rows(label)])
        inside = set((picks.rows[label::2] - offset).tolist())
        cut = sum(similar[i, s] for s in inside for i in range(len(similar)) if i not in inside)
        assert picks.gains[label::2].sum() == pytest.approx(cut, abs=1e-9)


def test_a_larger_lam_trades_typical_images_for_different_ones() -> None:
    """Two groups: without lam only the larger one is picked; with lam of the order of N / ipc, both are."""
    centres = np.array([[1.0, 0.0]] * 30 + [[0.0, 1.0]] * 10)
    candidates = pool_of_vectors(centres + 0.05 * stable(40, 2, 6), [40])
    small, large = (graph_cut(candidates, 4, 0, Progress(), lam=lam).rows for lam in (0.0, 10.0))
    assert (small < 30).all() and (large < 30).any() and (large >= 30).any()


def test_smaller_ipc_is_a_prefix_and_the_order_of_rows_does_not_matter() -> None:
    candidates = generic([9, 8, 10], 4, 5)
    check_prefixes(graph_cut, candidates)
    for seed in range(5):
        check_orders(graph_cut, candidates, 6, seed)


def test_a_negative_lam_is_refused() -> None:
    with pytest.raises(DataError) as error:
        graph_cut(generic([3, 3], 2), 1, 0, Progress(), lam=-1.0)
    assert str(error.value) == "selector 'graph_cut': lam is -1.0: input should be greater than or equal to 0"
