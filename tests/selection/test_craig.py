"""CRAIG against facility location on gradients written out, and against apricot."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import check_orders, check_prefixes, generic, pool_of, small_pools, softmax, stable, written_out

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.craig import Gradient, craig
from dcpipe.types import DataError, FloatArray

GRADIENTS: tuple[Gradient, ...] = ("logits", "last_layer")


def distances(candidates: Candidates, label: int, gradient: str) -> FloatArray:
    """All distances in one class, [N, N], each from the difference of two gradients."""
    own = candidates.rows(label)
    p = softmax(candidates.logits[own])
    vectors = np.asarray(candidates.vectors[own]) if gradient == "last_layer" else np.zeros((len(p), 0))
    g = written_out(p, vectors, [label] * len(p), bias=True)
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in g] for a in g])


def value(apart: FloatArray, picks: list[int]) -> float:
    """f of some picks, as L of an auxiliary image minus L of it and the picks."""
    auxiliary = float(apart.max())
    before = sum(auxiliary for _ in apart)
    return before - sum(min([auxiliary, *(row[s] for s in picks)]) for row in apart)


def reference(apart: FloatArray, ipc: int) -> tuple[list[int], list[float]]:
    rows: list[int] = []
    gains: list[float] = []
    for _ in range(ipc):
        before = value(apart, rows)
        gain = {i: value(apart, [*rows, i]) - before for i in range(len(apart)) if i not in rows}
        rows.append(next(i for i in gain if gain[i] >= max(gain.values()) - 1e-8))
        gains.append(gain[rows[-1]])
    return rows, gains


@settings(max_examples=80)
@given(small_pools(), st.sampled_from(GRADIENTS), st.sampled_from([1, 5, 2**22]))
def test_picks_gains_and_the_bound_are_those_of_the_definition(
    case: tuple[Candidates, int], gradient: Gradient, block: int
) -> None:
    candidates, ipc = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpipe.selection.craig._BLOCK", block)
        picks = craig(candidates, ipc, 0, Progress(), gradient=gradient)
    assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64
    for label, offset in enumerate(candidates.offsets[:-1]):
        apart = distances(candidates, label, gradient)
        rows, gains = reference(apart, ipc)
        assert (picks.rows.reshape(ipc, -1)[:, label] - offset).tolist() == rows
        found = picks.gains.reshape(ipc, -1)[:, label]
        np.testing.assert_allclose(found, gains, rtol=0, atol=1e-7)
        assert (np.diff(found) <= 1e-7).all() and (found >= -1e-12).all()  # submodular and monotone
        best = max(value(apart, list(subset)) for subset in combinations(range(len(apart)), ipc))
        assert value(apart, rows) >= (1 - 1 / np.e) * best - 1e-8


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_larger_classes_agree_with_the_definition(gradient: Gradient) -> None:
    candidates = generic([40, 33], 5, 7)
    picks = craig(candidates, 12, 4, Progress(), gradient=gradient)
    for label, offset in enumerate((0, 40)):
        rows, gains = reference(distances(candidates, label, gradient), 12)
        assert (picks.rows[label::2] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains[label::2], gains, rtol=0, atol=1e-9)


# From FacilityLocationSelection (lazy greedy) of apricot-select 0.6.1 for c - |g_i - g_s|.
APRICOT = {
    "logits": (
        [14, 1, 10, 5, 15, 9, 33, 25],
        [35.78544333, 3.74145536, 3.73050625, 2.79940617, 1.07508627, 1.03785445, 0.8523424, 0.48525308],
    ),
    "last_layer": (
        [21, 22, 38, 7, 18, 39, 19, 36],
        [89.98864165, 7.43149207, 3.88645382, 3.023492, 2.62357053, 2.37878339, 2.26584787, 2.00240241],
    ),
}


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_picks_and_gains_are_those_of_apricot(gradient: Gradient) -> None:
    h, z = stable(40, 6, 1) + 0.5, 3 * stable(40, 3, 2)
    candidates = pool_of(np.tile(h, (3, 1)), np.tile(z, (3, 1)), [40, 40, 40])
    picks = craig(candidates, 8, 0, Progress(), gradient=gradient)
    rows, gains = APRICOT[gradient]
    assert picks.rows[::3].tolist() == rows
    np.testing.assert_allclose(picks.gains[::3], gains, rtol=0, atol=1e-6)


def test_one_image_of_each_kind_of_error() -> None:
    """Images that are taken for three other classes, and one sure image; the largest group is first."""
    confused = [1] * 9 + [2] * 6 + [3] * 4 + [0]
    logits = 4 * np.eye(4)[confused] + 0.05 * stable(20, 4, 3)
    rest = pool_of(np.zeros((60, 2)), np.tile(np.eye(4), (15, 1)), [20, 20, 20]).logits
    candidates = pool_of(np.zeros((80, 2)), np.vstack([logits, np.asarray(rest[:, :1] * np.ones(4))]), [20] * 4)
    rows = craig(candidates, 4, 0, Progress()).rows[::4]
    assert [confused[row] for row in rows] == [1, 2, 3, 0]


def test_a_sure_teacher_still_tells_images_apart() -> None:
    """Gradients of the order of 1e-9 are compared with each other, not with 1."""
    logits = np.zeros((12, 3))
    logits[:6] = stable(6, 3, 4)
    logits[:6, 0] += 20
    candidates = pool_of(np.zeros((12, 1)), logits, [6, 3, 3])
    picks = craig(candidates, 3, 0, Progress())
    apart = distances(candidates, 0, "logits")
    assert apart.max() < 1e-7 and picks.gains[0] > 1e-9
    value_of = [value(apart, list(subset)) for subset in combinations(range(6), 1)]
    assert picks.rows[0] == int(np.argmax(value_of))


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_smaller_ipc_is_a_prefix_and_the_order_of_rows_does_not_matter(gradient: Gradient) -> None:
    check_prefixes(lambda *arguments: craig(*arguments, gradient=gradient), generic([9, 8, 10], 4, 5))
    for seed in range(5):
        # Later, two images that are each other's nearest neighbours gain the same.
        candidates = generic([40, 30, 30], 4, seed)
        check_orders(lambda *arguments: craig(*arguments, gradient=gradient), candidates, 3, seed)


def test_errors_name_the_option_and_the_remedy() -> None:
    with pytest.raises(DataError) as error:
        craig(generic([3, 3], 2), 1, 0, Progress(), gradient="all")  # type: ignore[arg-type]
    assert str(error.value) == "selector 'craig': gradient is 'all': input should be 'logits' or 'last_layer'"
