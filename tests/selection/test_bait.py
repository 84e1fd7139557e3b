"""BAIT's blocks and picks against dense Fisher matrices of dimension C d, inverted anew for every candidate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of, softmax, stable

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.bait import (
    _first_blocks,
    _forward,
    _initial_model,
    _Model,
    bait,
    pool_by_dimension,
    pool_by_pair,
    root,
)
from dcpipe.types import DataError, FloatArray

TIE = 1e-9


@dataclass(frozen=True)
class Reference:
    """tr(M^-1 F) of a set of rows, by definition: whole Fisher matrices, an eigendecomposition for each inverse."""

    candidates: Candidates
    ridge: float

    def matrices(self) -> FloatArray:
        h, p = np.asarray(self.candidates.vectors, dtype=np.float64), softmax(np.asarray(self.candidates.logits))
        return np.stack([np.kron(np.diag(q) - np.outer(q, q), np.outer(x, x)) for x, q in zip(h, p, strict=True)])

    def inverse(self, rows: list[int]) -> FloatArray:
        each = self.matrices()
        values, turn = np.linalg.eigh(self.ridge * np.eye(each.shape[1]) + each[rows].sum(axis=0))
        return (turn / values) @ turn.T

    def trace(self, rows: list[int]) -> float:
        return float((self.inverse(rows) * self.matrices().mean(axis=0)).sum())

    def greedy(self, ipc: int, oversample: float) -> tuple[list[int], list[float]]:
        classes = [self.candidates.rows(label) for label in range(self.candidates.n_classes)]
        tie = TIE * self.trace([])
        rows: list[int] = []
        gains: dict[int, float] = {}
        for turn in range(int(oversample * ipc)):
            for own in classes:
                if turn < own.stop - own.start:
                    before = self.trace(rows)
                    gain = {row: before - self.trace([*rows, row]) for row in range(own.start, own.stop)}
                    gain = {row: value for row, value in gain.items() if row not in rows}
                    best = min(row for row in gain if gain[row] >= max(gain.values()) - tie)
                    rows.append(best)
                    gains[best] = gain[best]
        while len(rows) > ipc * len(classes):
            for own in classes:
                mine = [row for row in rows if own.start <= row < own.stop]
                if len(mine) > ipc:
                    left = {row: self.trace([other for other in rows if other != row]) for row in mine}
                    rows.remove(max(row for row in mine if left[row] <= min(left.values()) + tie))
        each = [[row for row in rows if own.start <= row < own.stop] for own in classes]
        order = [own[turn] for turn in range(ipc) for own in each]
        return order, [gains[row] for row in order]


def made(sizes: list[int], d: int, seed: int = 0, scale: float = 2.0) -> Candidates:
    """Random vectors, and logits that favour the right class."""
    n, c = sum(sizes), len(sizes)
    right = np.repeat(np.eye(c), sizes, axis=0)
    return pool_of(scale * stable(n, d, seed), 2 * stable(n, c, seed + 100) + right, sizes)


@st.composite
def small_candidates(draw: Callable[..., object]) -> tuple[Candidates, int]:
    """Integer vectors and logits, so that duplicates, zero rows and exact ties are common."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    d, n = draw(st.integers(1, 3)), sum(sizes)
    numbers = draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    logits = draw(st.lists(st.sampled_from([-3, 0, 1]), min_size=n * len(sizes), max_size=n * len(sizes)))
    ipc = draw(st.integers(1, min(sizes)))
    vectors = np.array(numbers, dtype=np.float64).reshape(n, d)
    return pool_of(vectors, np.array(logits, dtype=np.float64).reshape(n, len(sizes)), sizes), ipc


@settings(deadline=None, max_examples=100)
@given(small_candidates(), st.sampled_from([0.1, 1.0, 30.0]), st.sampled_from([1.0, 1.5, 2.0, 9.0]))
def test_picks_and_gains_are_those_of_the_definition(
    case: tuple[Candidates, int], ridge: float, oversample: float
) -> None:
    candidates, ipc = case
    picks = bait(candidates, ipc, 0, Progress(), ridge=ridge, oversample=oversample)
    rows, gains = Reference(candidates, ridge).greedy(ipc, oversample)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9 * (1 + Reference(candidates, ridge).trace([])))


@pytest.mark.parametrize(("sizes", "d", "ipc"), [([7, 6, 5], 4, 2), ([8, 9], 5, 3), ([4, 4, 4, 4], 2, 1)])
def test_random_picks_are_those_of_the_definition(sizes: list[int], d: int, ipc: int) -> None:
    candidates = made(sizes, d, seed=3)
    picks = bait(candidates, ipc, 0, Progress(), ridge=0.3)
    rows, gains = Reference(candidates, 0.3).greedy(ipc, 2.0)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=1e-9)


def dense_blocks(candidates: Candidates, matrix: FloatArray) -> FloatArray:
    """h^T B_ab h of every candidate for the blocks B_ab of a matrix, [n, C, C]."""
    h, c = np.asarray(candidates.vectors, dtype=np.float64), candidates.logits.shape[1]
    return np.einsum("ni,aibj,nj->nab", h, matrix.reshape(c, h.shape[1], c, h.shape[1]), h)


def started(candidates: Candidates, ridge: float, steps: int, memory_gib: float = 8.0) -> _Model:
    return _initial_model(candidates, ridge, steps, memory_gib, torch.device("cpu"))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("ridge", [1.0, 1e-3])
def test_three_hundred_steps_do_not_drift(dense: bool, ridge: float) -> None:
    candidates, every = made([60, 60, 60], 6, seed=4), np.array([60, 60, 60])
    model = started(candidates, ridge, 330)
    assert model.dense
    if not dense:  # as columns, although there are more of them than M^-1 has
        model = replace(model, columns=torch.zeros(18, 990).double(), signs=torch.zeros(990).double(), dense=False)
    blocks, reference = _first_blocks(model), Reference(candidates, ridge)
    first_t, first_q = float(blocks.t.abs().max()), float(blocks.q.abs().max())
    # Roots are orthogonal to equal numbers for all classes: there M is ridge I, and eigh of the whole is rough.
    centre = np.eye(3) - 1 / 3
    rows = _forward(model, blocks, every, lambda done: None).rows.tolist()
    inverse, pool = reference.inverse(rows), reference.matrices().mean(axis=0)
    for mine, matrix, first in ((blocks.t, inverse, first_t), (blocks.q, inverse @ pool @ inverse, first_q)):
        expected = centre @ dense_blocks(candidates, matrix) @ centre
        np.testing.assert_allclose(centre @ mine.numpy() @ centre, expected, rtol=0, atol=1e-14 * first)
    for row in rows[:150]:
        model.take(row, -1)
    spread = np.kron(centre, np.eye(6))
    inverse = spread @ reference.inverse(rows[150:]) @ spread
    np.testing.assert_allclose(model.inverse(torch.from_numpy(spread)).numpy(), inverse, rtol=0, atol=1e-12 / ridge)


def test_removals_do_not_drift() -> None:
    candidates = made([40, 40, 40], 6, seed=5)
    picks = bait(candidates, 4, 0, Progress(), ridge=0.1, oversample=6.0)  # 72 additions, 60 removals
    assert picks.rows.tolist() == shortcut(candidates, 4, 0.1, 24)


def shortcut(candidates: Candidates, ipc: int, ridge: float, turns: int) -> list[int]:
    """`Reference.greedy` with one dense inverse per step and Woodbury's identity for the candidates."""
    reference, n_classes = Reference(candidates, ridge), candidates.n_classes
    each = reference.matrices()
    values, turn = np.linalg.eigh(each)
    v, pool = turn * np.sqrt(np.maximum(values, 0))[:, None, :], each.mean(axis=0)
    label = np.repeat(np.arange(n_classes), np.diff(candidates.offsets))
    rows: list[int] = []

    def change(row: int, sign: int) -> float:
        av = inverse @ v[row]
        return float(np.trace(np.linalg.solve(np.eye(len(av)) + sign * v[row].T @ av, av.T @ pool @ av)))

    for step in range(turns * n_classes):
        inverse = reference.inverse(rows)
        free = [row for row in np.flatnonzero(label == step % n_classes) if row not in rows]
        rows.append(int(free[int(np.argmax([change(row, 1) for row in free]))]))
    for step in range((turns - ipc) * n_classes):
        inverse = reference.inverse(rows)
        mine = [row for row in rows if label[row] == step % n_classes]
        rows.remove(mine[int(np.argmin([change(row, -1) for row in mine]))])
    left = [[row for row in rows if label[row] == y] for y in range(n_classes)]
    return [own[turn] for turn in range(ipc) for own in left]


@settings(deadline=None, max_examples=40)
@given(small_candidates())
def test_first_blocks_are_those_of_the_definition_in_both_ways(case: tuple[Candidates, int]) -> None:
    candidates, _ = case
    model = started(candidates, 0.5, 1)
    pool = Reference(candidates, 0.5).matrices().mean(axis=0)
    for way in (pool_by_pair, pool_by_dimension):
        np.testing.assert_allclose(way(model).numpy(), dense_blocks(candidates, pool), rtol=0, atol=1e-12)
    t = dense_blocks(candidates, np.eye(len(pool)) / 0.5)
    np.testing.assert_allclose(_first_blocks(model).t.numpy(), t, rtol=0, atol=1e-12)


def test_many_images_are_paired_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = started(made([9, 5, 11], 4), 1.0, 1)
    whole = pool_by_pair(model)
    monkeypatch.setattr(import_module("dcpipe.selection.bait"), "_PART", 7)
    np.testing.assert_allclose(pool_by_pair(model).numpy(), whole.numpy(), rtol=1e-12)


def test_root_squared_is_the_fisher_matrix_and_keeps_the_digits_of_a_sure_teacher() -> None:
    p = softmax(np.array([[0.0, 1.0, -2.0], [40.0, 0.0, -3.0], [0.0, 0.0, 0.0]]))
    r = root(torch.from_numpy(p)).numpy()
    g = r @ r.transpose(0, 2, 1)
    np.testing.assert_allclose(g, [np.diag(q) - np.outer(q, q) for q in p], rtol=0, atol=1e-15)
    assert g[1, 0, 0] == pytest.approx(p[1, 0] * (p[1, 1] + p[1, 2]), rel=1e-12)
    assert not root(torch.ones(2, 1).double()).any()


def binary(vectors: list[list[float]]) -> Candidates:
    """One class of images that the teacher, with two logits, is uncertain about."""
    return pool_of(np.array(vectors), np.zeros((len(vectors), 2)), [len(vectors)])


def test_a_compromise_is_picked_first_and_given_up_for_the_axes() -> None:
    candidates = binary([[3, 0], [0, 3], [2, 2]])
    assert bait(candidates, 2, 0, Progress(), oversample=1.0).rows.tolist() == [2, 0]
    assert bait(candidates, 2, 0, Progress(), oversample=1.5).rows.tolist() == [0, 1]
    assert (
        bait(candidates, 2, 0, Progress(), oversample=1.5).gains.sum() < 2 * bait(candidates, 1, 0, Progress()).gains[0]
    )


def test_a_smaller_ipc_is_no_prefix_because_of_the_removals() -> None:
    candidates = binary([[3, 0], [0, 3], [2, 2]])
    assert bait(candidates, 1, 0, Progress(), oversample=1.5).rows.tolist() == [2]
    assert 2 not in bait(candidates, 2, 0, Progress(), oversample=1.5).rows


def test_a_smaller_ipc_is_a_prefix_without_removals() -> None:
    candidates = made([9, 8, 10], 4, seed=5)
    full = bait(candidates, 8, 0, Progress(), oversample=1.0)
    for ipc in (1, 3, 7):
        part = bait(candidates, ipc, 0, Progress(), oversample=1.0)
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        np.testing.assert_allclose(part.gains, full.gains[: 3 * ipc], rtol=1e-9)


def test_picks_spread_over_directions_and_prefer_unsure_and_common_ones() -> None:
    # Four copies of one direction, one of another: the common one first, then the other before any copy.
    assert bait(binary([[0, 2], [2, 0], [2, 0], [2, 0], [2, 0]]), 2, 0, Progress(), ridge=0.1).rows.tolist() == [1, 0]
    sure = pool_of(np.full((3, 2), 2.0), np.array([[9.0, 0], [0, 0], [9.0, 0]]), [3])
    assert bait(sure, 1, 0, Progress(), oversample=1.0).rows.tolist() == [1]


def test_removals_raise_the_trace_of_all_classes_together() -> None:
    # Class 1 supplies one of the two directions of class 0, which alone would keep that one and now keeps the other.
    vectors = np.array([[0.0, 2.0], [2.2, 0.0], [3.0, 0.0], [3.0, 0.0]])
    both = pool_of(vectors, np.zeros((4, 2)), [2, 2])
    alone = pool_of(vectors[:2], np.zeros((2, 2)), [2])
    assert bait(alone, 1, 0, Progress(), ridge=0.5).rows.tolist() == [1]
    assert bait(both, 1, 0, Progress(), ridge=0.5).rows[0] == 0


@settings(deadline=None, max_examples=40)
@given(small_candidates(), st.sampled_from([1.0, 2.0, 3.0]))
def test_rounds_are_balanced_and_nothing_is_picked_twice(case: tuple[Candidates, int], oversample: float) -> None:
    candidates, ipc = case
    picks = bait(candidates, ipc, 0, Progress(), oversample=oversample)
    labels = np.searchsorted(candidates.offsets, picks.rows, side="right") - 1
    assert labels.tolist() == list(range(candidates.n_classes)) * ipc
    assert len(set(picks.rows.tolist())) == len(picks.rows)
    assert (picks.gains >= -1e-12 * (1 + Reference(candidates, 1.0).trace([]))).all()


def test_gains_add_up_to_the_fall_of_the_trace() -> None:
    candidates = made([6, 7], 5, seed=6)
    picks = bait(candidates, 6, 0, Progress(), oversample=1.0)
    reference = Reference(candidates, 1.0)
    assert picks.gains.sum() == pytest.approx(reference.trace([]) - reference.trace(picks.rows.tolist()), rel=1e-10)


def test_turned_features_give_the_same_picks() -> None:
    candidates = made([20, 20], 6, seed=8)
    turned = replace(
        candidates, vectors=np.asarray(candidates.vectors, dtype=np.float64) @ np.linalg.qr(stable(6, 6))[0]
    )
    a, b = bait(candidates, 8, 0, Progress()), bait(turned, 8, 0, Progress())
    assert a.rows.tolist() == b.rows.tolist()
    np.testing.assert_allclose(a.gains, b.gains, rtol=1e-9)


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(10)), st.permutations(range(10, 20)))
def test_row_order_does_not_matter_where_nothing_ties(first: list[int], second: list[int]) -> None:
    candidates, order = made([10, 10], 4, seed=9), np.array(first + second)
    moved = pool_of(np.asarray(candidates.vectors)[order], np.asarray(candidates.logits)[order], [10, 10])
    assert bait(candidates, 4, 0, Progress()).rows.tolist() == order[bait(moved, 4, 0, Progress()).rows].tolist()


def test_of_equal_images_the_lower_rows_stay() -> None:
    candidates = pool_of(np.tile(stable(1, 5), (16, 1)), np.tile(stable(1, 2), (16, 1)), [9, 7])
    assert bait(candidates, 3, 0, Progress()).rows.tolist() == [0, 9, 1, 10, 2, 11]


def test_the_seed_changes_nothing() -> None:
    candidates = made([9, 9], 3)
    assert bait(candidates, 3, 0, Progress()).rows.tolist() == bait(candidates, 3, 1, Progress()).rows.tolist()


def test_each_step_is_reported() -> None:
    steps: list[tuple[int, int]] = []
    bait(made([3, 9], 2), 2, 0, Progress(progress=lambda done, total: steps.append((done, total))))
    assert steps == [(done, 10) for done in range(1, 11)]  # 3 + 4 picks, 3 removals


class Spy:
    """Returns rows like a memory map, and records which."""

    def __init__(self, array: FloatArray) -> None:
        self.array, self.asked = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index: object) -> FloatArray:
        self.asked.append(index)
        return self.array[index]


def test_vectors_that_do_not_fit_are_read_one_class_at_a_time() -> None:
    candidates = made([50, 60, 70], 40)
    held = Spy(np.asarray(candidates.vectors))
    rows = bait(replace(candidates, vectors=held), 2, 0, Progress()).rows
    classes = [candidates.rows(label) for label in range(3)]
    assert [held.asked.count(own) for own in classes] == [1, 1, 1]
    needed = 8 * (3 * 180 * 9 + 120 * 3 * 18)
    spy = Spy(np.asarray(candidates.vectors))
    again = bait(replace(candidates, vectors=spy), 2, 0, Progress(), memory_gib=(needed + 1) / 2**30)
    assert again.rows.tolist() == rows.tolist()
    assert all(spy.asked.count(own) > 12 for own in classes)


def test_golden_picks() -> None:
    picks = bait(made([12, 12, 12], 6), 4, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains, GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [2, 16, 28, 5, 15, 33, 9, 19, 29, 6, 22, 24]
GOLDEN_GAINS = [
    0.2546510067,
    0.1958750657,
    0.3285044631,
    0.1560175804,
    0.1518982521,
    0.2689068473,
    0.0756340707,
    0.0485871086,
    0.0500777892,
    0.0436223019,
    0.0349810586,
    0.0169434612,
]


@pytest.mark.gpu
def test_a_cuda_device_gives_the_same_picks() -> None:
    candidates = made([60, 50, 70], 24, seed=16)
    here, there = bait(candidates, 10, 0, Progress()), bait(candidates, 10, 0, Progress(), device="cuda")
    assert there.rows.tolist() == here.rows.tolist()
    np.testing.assert_allclose(there.gains, here.gains, rtol=1e-9)


def test_too_much_memory_is_refused_before_any_work() -> None:
    class Untouched:
        dtype = np.dtype(np.float32)

        def __init__(self, *shape: int) -> None:
            self.shape = shape

        def __getitem__(self, index: object) -> FloatArray:
            raise AssertionError("read")

    n, c = 1_281_167, 1000
    offsets = np.linspace(0, n, c + 1).astype(np.int64)
    with pytest.raises(DataError) as error:
        bait(Candidates(Untouched(n, 512), Untouched(n, c), np.zeros(n), offsets), 10, 0, Progress())
    assert str(error.value) == (
        "selection: bait needs 30589.4 GiB for 1281167 images and 1000 classes, but selection.options.memory_gib is "
        "8.0; "
        "use fewer classes or another selector, or raise it"
    )


def test_errors_name_the_option_and_the_remedy() -> None:
    candidates = binary([[30, 0], [0, 40], [20, 20]])
    for options, sentence in (
        ({"ridge": 0.0}, "selector 'bait': ridge is 0.0: input should be greater than 0"),
        ({"oversample": 0.5}, "selector 'bait': oversample is 0.5: input should be greater than or equal to 1"),
        (
            {"ridge": 1e-5},
            "selection.options.ridge is 1e-05, too small for vectors of length up to 40; give at least 0.0016",
        ),
    ):
        with pytest.raises(DataError) as error:
            bait(candidates, 1, 0, Progress(), **options)
        assert str(error.value) == sentence
    with pytest.raises(DataError) as error:
        bait(made([5, 3], 2), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"
