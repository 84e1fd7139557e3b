"""Facility location against its definition, and its bound against all subsets of small classes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import generic, pool_of_vectors, stable

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.facility_location import facility_location
from dcpipe.types import DataError, FloatArray


def made(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    return pool_of_vectors((stable(sum(sizes), d, seed) + 0.5).astype(np.float32), sizes)


def value(vectors: FloatArray, picks: list[int]) -> float:
    """f of some picks of one class, by its definition, one cosine at a time."""
    units = [x / np.sqrt(x @ x) if x @ x > 0 else x for x in np.asarray(vectors, dtype=np.float64)]
    return float(sum(max((1 + x @ units[s] for s in picks), default=0.0) for x in units))


def reference(vectors: FloatArray, ipc: int) -> tuple[list[int], list[float]]:
    rows: list[int] = []
    gains: list[float] = []
    for _ in range(ipc):
        before = value(vectors, rows)
        gain = {i: value(vectors, [*rows, i]) - before for i in range(len(vectors)) if i not in rows}
        rows.append(next(i for i in gain if gain[i] >= max(gain.values()) - 1e-10))
        gains.append(gain[rows[-1]])
    return rows, gains


@st.composite
def small_candidates(draw: Callable[..., object]) -> tuple[Candidates, int]:
    """Integer vectors, so that duplicates, zero rows and exact ties are common; ipc up to the smallest class."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    d, n = draw(st.integers(1, 4)), sum(sizes)
    numbers = draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    return pool_of_vectors(np.array(numbers, dtype=np.float32).reshape(n, d), sizes), draw(st.integers(1, min(sizes)))


@settings(deadline=None, max_examples=100)
@given(small_candidates(), st.sampled_from([1, 5, 2**22]))
def test_picks_gains_and_the_bound_are_those_of_the_definition(case: tuple[Candidates, int], block: int) -> None:
    candidates, ipc = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpipe.selection.facility_location._BLOCK", block)
        picks = facility_location(candidates, ipc, 0, Progress())
    assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64
    for label, offset in enumerate(candidates.offsets[:-1]):
        vectors = np.asarray(candidates.vectors[candidates.rows(label)])
        rows, gains = reference(vectors, ipc)
        assert (picks.rows.reshape(ipc, -1)[:, label] - offset).tolist() == rows
        found = picks.gains.reshape(ipc, -1)[:, label]
        np.testing.assert_allclose(found, gains, rtol=0, atol=1e-9)
        assert (np.diff(found) <= 1e-9).all() and (found >= -1e-12).all()  # submodular and monotone
        best = max(value(vectors, list(subset)) for subset in combinations(range(len(vectors)), ipc))
        assert value(vectors, rows) >= (1 - 1 / np.e) * best - 1e-9


def test_larger_classes_agree_with_the_definition() -> None:
    candidates = made([40, 33], 7, seed=1)
    picks = facility_location(candidates, 12, 4, Progress())
    for label, offset in enumerate((0, 40)):
        rows, gains = reference(np.asarray(candidates.vectors[candidates.rows(label)]), 12)
        assert (picks.rows[label::2] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains[label::2], gains, rtol=0, atol=1e-9)


def test_picks_and_gains_are_those_of_apricot() -> None:
    """From FacilityLocationSelection (lazy greedy) of apricot-select 0.6.1 for the same similarities."""
    picks = facility_location(generic([40, 3, 3], 6, 1), 3, 0, Progress())
    assert picks.rows[::3].tolist() == [18, 11, 26]
    np.testing.assert_allclose(picks.gains[::3], [63.648173, 2.85860027, 1.94844258], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_one_image_of_each_cluster_and_no_outlier(seed: int) -> None:
    centres = np.eye(5)[np.append(np.arange(40) % 4, 4)]
    vectors = centres + 0.1 * stable(41, 5, seed)
    rows = facility_location(pool_of_vectors(vectors, [41]), 4, 0, Progress()).rows
    assert sorted((rows % 4).tolist()) == [0, 1, 2, 3] and 40 not in rows


def test_smaller_ipc_is_a_prefix_and_the_seed_has_no_effect() -> None:
    candidates = made([9, 8, 10], 4, seed=5)
    full = facility_location(candidates, 8, 2, Progress())
    for ipc in (1, 3, 7):
        part = facility_location(candidates, ipc, ipc, Progress())
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        assert part.gains.tolist() == full.gains[: 3 * ipc].tolist()


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(10)), st.permutations(range(10, 20)))
def test_row_order_does_not_matter_where_nothing_ties(first: list[int], second: list[int]) -> None:
    candidates, order = made([10, 10], 4, seed=6), np.array(first + second)
    moved = replace(candidates, vectors=np.asarray(candidates.vectors)[order])
    # Later, two images that are each other's nearest neighbours gain the same.
    picks, again = (facility_location(c, 3, 0, Progress()) for c in (candidates, moved))
    assert picks.rows.tolist() == order[again.rows].tolist()


def test_rotated_and_scaled_vectors_give_the_same_picks() -> None:
    candidates = made([20, 20], 6, seed=7)
    turn = np.linalg.qr(stable(6, 6, 77))[0]
    scale = 2.0 ** np.arange(-20, 20)[:, None]
    moved = replace(candidates, vectors=scale * np.asarray(candidates.vectors, dtype=np.float64) @ turn)
    picks, again = (facility_location(c, 5, 0, Progress()) for c in (candidates, moved))
    assert picks.rows.tolist() == again.rows.tolist()


def test_a_class_that_is_too_small_is_refused() -> None:
    with pytest.raises(DataError) as error:
        facility_location(made([5, 3], 2), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
