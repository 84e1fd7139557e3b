"""SCORE's greedy choice against Eq. 4 to 6 evaluated by definition, one determinant at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import log_det, made, pool_of_vectors, stable, unit

from dcpipe.coding_rate.rate import LaterRate, Rate
from dcpipe.coding_rate.state import State
from dcpipe.selection import Candidates, Picks, Progress
from dcpipe.selection.score import note, score
from dcpipe.types import DataError

TIE = 1e-10


@dataclass(frozen=True)
class Reference:
    """Eq. 4 of a set of rows, by definition; `held` is ipc where the counts are held at their last values."""

    candidates: Candidates
    alpha: float
    beta: float
    eps2: float = 0.5
    held: int | None = None

    def rate(self, rows: list[int]) -> float:
        if not rows:
            return 0.0
        z = unit(np.asarray(self.candidates.vectors))[rows]
        labels = np.searchsorted(self.candidates.offsets, rows, side="right") - 1
        d, n_classes = z.shape[1], self.candidates.n_classes
        n = len(rows) if self.held is None else self.held * n_classes
        r_i = log_det(d / (n * self.eps2), z) / 2
        r_d = 0.0
        for label in range(n_classes):
            own = z[labels == label]
            if len(own):
                n_own = len(own) if self.held is None else self.held
                r_d += n_own / (2 * n) * log_det(d / (n_own * self.eps2), own)
        return r_i - self.alpha * r_d - self.beta * float(self.candidates.label_rate[rows].sum())

    def greedy(self, ipc: int, by_turns: bool = True) -> tuple[list[int], list[float]]:
        rows: list[int] = []
        gains: list[float] = []
        everyone = slice(0, int(self.candidates.offsets[-1]))
        for step in range(ipc * self.candidates.n_classes):
            own = self.candidates.rows(step % self.candidates.n_classes) if by_turns else everyone
            before = self.rate(rows)
            free = [row for row in range(own.start, own.stop) if row not in rows]
            gain = {row: self.rate([*rows, row]) - before for row in free}
            tied = [row for row in free if gain[row] >= max(gain.values()) - TIE]
            rows.append(min(tied, key=lambda row: (self.candidates.label_rate[row], row)))
            gains.append(gain[rows[-1]])
        return rows, gains


@st.composite
def small_candidates(draw: Callable[..., object]) -> tuple[Candidates, int]:
    """Integer vectors, so that duplicates, zero rows and exact ties are common; ipc up to the smallest class."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    d = draw(st.integers(1, 4))
    n = sum(sizes)
    numbers = draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    rates = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=n, max_size=n))
    ipc = draw(st.integers(1, min(sizes)))
    return pool_of_vectors(np.array(numbers, dtype=np.float64).reshape(n, d), sizes, np.array(rates)), ipc


@settings(deadline=None, max_examples=200)
@given(small_candidates(), st.sampled_from([0.0, 0.1, 5.0]), st.sampled_from([0.0, 1.0]), st.booleans())
def test_picks_and_gains_are_those_of_the_definition(
    case: tuple[Candidates, int], alpha: float, beta: float, final: bool
) -> None:
    candidates, ipc = case
    picks = score(candidates, ipc, 0, Progress(), alpha=alpha, beta=beta, coefficient="final" if final else "growing")
    rows, gains = Reference(candidates, alpha, beta, held=ipc if final else None).greedy(ipc)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=100)
@given(small_candidates(), st.sampled_from([0.0, 0.1, 5.0]), st.sampled_from([0.0, 1.0]))
def test_global_order_is_algorithm_1_to_the_letter(case: tuple[Candidates, int], alpha: float, beta: float) -> None:
    candidates, ipc = case
    picks = score(candidates, ipc, 0, Progress(), alpha=alpha, beta=beta, order="global")
    rows, gains = Reference(candidates, alpha, beta).greedy(ipc, by_turns=False)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9)


def test_global_order_may_leave_a_class_out_and_resumes() -> None:
    # Class 1 is one vector four times over: a second one of it is worth less than a new one of class 0.
    candidates = pool_of_vectors(np.vstack([np.eye(4), np.ones((4, 4))]), [4, 4])
    whole = score(candidates, 2, 0, Progress(), alpha=0.0, beta=0.0, order="global")
    labels = np.searchsorted(candidates.offsets, whole.rows, side="right") - 1
    assert np.bincount(labels, minlength=2).tolist() == [4, 0]
    for kept in (1, 2, 3):
        earlier = Picks(whole.rows[:kept], whole.gains[:kept])
        resumed = score(candidates, 2, 0, Progress(earlier=earlier), alpha=0.0, beta=0.0, order="global")
        assert resumed.rows.tolist() == whole.rows.tolist()


def typical_rows(candidates: Candidates, share: float) -> list[list[int]]:
    """The candidates of each class that are nearest its mean, most typical first, one cosine at a time."""
    chosen = []
    for label in range(candidates.n_classes):
        own = candidates.rows(label)
        z = unit(np.asarray(candidates.vectors[own]))
        mean = z.mean(axis=0)
        mean = mean / np.sqrt(mean @ mean)
        ranked = sorted(range(len(z)), key=lambda i: (-round(float(z[i] @ mean), 12), i))
        chosen.append([own.start + i for i in ranked[: int(np.ceil(share * len(z)))]])
    return chosen


@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("start", ["greedy", "medoid"])
def test_typical_candidates_and_starts_are_those_nearest_the_mean(alpha: float, share: float, start: str) -> None:
    candidates = made([14, 11], 5, seed=8)
    allowed = typical_rows(candidates, share)
    picks = score(candidates, 3, 0, Progress(), alpha=alpha, typical=share, start=start)
    rows: list[int] = []
    objective = Reference(candidates, alpha, 1.0)
    for step in range(6):
        before, own = objective.rate(rows), allowed[step % 2]
        free = own[:1] if start == "medoid" and step < 2 else sorted(set(own) - set(rows))
        gains = [objective.rate([*rows, row]) - before for row in free]
        rows.append(free[int(np.argmax(gains))])
        assert picks.gains[step] == pytest.approx(max(gains), abs=1e-9)
    assert picks.rows.tolist() == rows


def test_the_defaults_are_the_whole_class_and_a_greedy_start() -> None:
    candidates = made([14, 11], 5, seed=8)
    plain = score(candidates, 4, 0, Progress())
    same = score(candidates, 4, 0, Progress(), typical=1.0, start="greedy")
    assert plain.rows.tobytes() == same.rows.tobytes() and plain.gains.tobytes() == same.gains.tobytes()


def test_a_medoid_start_resumes_and_leaves_images_off_the_shortlist_out() -> None:
    candidates = made([14, 11], 5, seed=8)
    barred = [rows[0] for rows in typical_rows(candidates, 1.0)]
    candidates.label_rate[barred] = np.inf
    reports: list[Picks] = []
    whole = score(candidates, 4, 0, Progress(report=reports.append), start="medoid", typical=0.5)
    assert not set(barred) & set(whole.rows.tolist())
    for earlier in reports:
        resumed = score(candidates, 4, 0, Progress(earlier=earlier), start="medoid", typical=0.5)
        assert resumed.rows.tolist() == whole.rows.tolist() and resumed.gains.tolist() == whole.gains.tolist()


def test_too_few_typical_images_and_a_medoid_without_rounds_are_refused() -> None:
    candidates = made([14, 11], 5, seed=8)
    with pytest.raises(DataError) as error:
        score(candidates, 3, 0, Progress(), typical=0.1)
    assert str(error.value) == ("selection.ipc is 3 but option typical 0.1 leaves 2 images of class '0'; raise typical")
    with pytest.raises(DataError, match=r"start 'medoid' gives every class a first image, which order 'global' does"):
        score(candidates, 3, 0, Progress(), start="medoid", order="global")


def test_double_precision_decides_what_single_cannot_see() -> None:
    # Rows 1 to 19 are row 0 turned by 1e-6 i towards a new direction: gains differ by 1e-12 and more, vectors in
    # float32 by less than float32 scores can tell.
    d = 20
    vectors = np.zeros((40, d), dtype=np.float32)
    vectors[:, 0] = 1.0
    vectors[np.arange(1, 40), 1 + np.arange(39) % (d - 1)] = np.arange(1, 40) * 2e-5
    candidates = pool_of_vectors(vectors, [40], stable(40, 1, 3)[:, 0] * 1e-7 + 1)
    picks = score(candidates, 12, 0, Progress(), alpha=0.0, beta=1.0)
    rows, gains = Reference(candidates, 0.0, 1.0).greedy(12)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-11)


@pytest.mark.parametrize("eps2", [1e-6, 1e-9])
def test_where_single_precision_is_too_coarse_everything_is_scored_in_double(eps2: float) -> None:
    base = stable(4, 12, 5)
    near = base[np.arange(24) % 4] + 1e-5 * stable(24, 12, 6)
    candidates = pool_of_vectors(near, [24])
    picks = score(candidates, 10, 0, Progress(), alpha=0.0, beta=0.0, eps2=eps2)
    z = unit(np.asarray(candidates.vectors))
    rows: list[int] = []
    for _ in range(10):
        c = 12 / ((len(rows) + 1) * eps2)
        # eigenvalues, for the reference's determinant is not exact enough at this condition either
        free = [row for row in range(24) if row not in rows]
        value = {row: float(np.log1p(c * np.linalg.svd(z[[*rows, row]])[1] ** 2).sum()) for row in free}
        rows.append(max(free, key=lambda row, value=value: (value[row] >= max(value.values()) - TIE, -row)))
    assert picks.rows.tolist() == rows


def test_images_that_a_shortlist_left_out_are_no_candidates() -> None:
    candidates = made([8, 8], 4, seed=15)
    rates = candidates.label_rate.copy()
    rates[[1, 2, 9, 15]] = np.inf
    for beta in (0.0, 1.0):
        short = score(replace(candidates, label_rate=rates), 5, 0, Progress(), beta=beta)
        assert not set(short.rows.tolist()) & {1, 2, 9, 15}
        kept = np.flatnonzero(np.isfinite(rates))
        fewer = pool_of_vectors(np.asarray(candidates.vectors)[kept], [6, 6], rates[kept])
        assert short.rows.tolist() == kept[score(fewer, 5, 0, Progress(), beta=beta).rows].tolist()
    with pytest.raises(DataError) as error:
        score(replace(candidates, label_rate=rates), 7, 0, Progress())
    assert str(error.value) == (
        "selection.ipc is 7 but the shortlist has 6 images of class '0'; raise features.label_rate.shortlist.per_class"
    )


@pytest.mark.parametrize("eps2", [0.5, 0.01])
def test_both_forms_are_used_and_agree_with_the_definition(eps2: float, monkeypatch: pytest.MonkeyPatch) -> None:
    forms: list[tuple[type, int]] = []
    state_of = State.all
    monkeypatch.setattr(
        State, "all", lambda state, c: forms.append((type(found := state_of(state, c)), state.based)) or found
    )
    candidates = made([14, 11], 5)
    picks = score(candidates, 9, 0, Progress(), alpha=2.0, beta=0.1, eps2=eps2)
    assert set(forms) == {(Rate, 0), (LaterRate, 8), (LaterRate, 16)}
    rows, gains = Reference(candidates, 2.0, 0.1, eps2).greedy(9)
    assert picks.rows.tolist() == rows
    np.testing.assert_allclose(picks.gains, gains, rtol=0, atol=1e-9)
    assert picks.rows.dtype == np.int64
    assert picks.gains.dtype == np.float64


def test_golden_picks() -> None:
    picks = score(made([12, 12, 12], 6), 4, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains, GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [0, 22, 27, 9, 20, 31, 2, 14, 25, 7, 17, 34]
GOLDEN_GAINS = [
    -5.3032955343,
    0.4500080098,
    0.3222451642,
    -1.466176125,
    -0.8743623915,
    -0.4554662393,
    -1.0843519709,
    -0.8269253339,
    -0.3196411753,
    -1.1303804812,
    -0.6593764767,
    -0.5012555249,
]


def test_smaller_ipc_is_a_prefix() -> None:
    candidates = made([9, 8, 10], 4, seed=5)
    full = score(candidates, 8, 0, Progress())
    for ipc in (1, 3, 7):
        part = score(candidates, ipc, 0, Progress())
        assert part.rows.tolist() == full.rows[: 3 * ipc].tolist()
        np.testing.assert_allclose(part.gains, full.gains[: 3 * ipc], rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(small_candidates())
def test_rounds_are_balanced_and_nothing_is_picked_twice(case: tuple[Candidates, int]) -> None:
    candidates, ipc = case
    rows = score(candidates, ipc, 0, Progress()).rows
    labels = np.searchsorted(candidates.offsets, rows, side="right") - 1
    assert labels.tolist() == list(range(candidates.n_classes)) * ipc
    assert len(set(rows.tolist())) == len(rows)


def test_rotated_features_give_the_same_picks() -> None:
    candidates = made([20, 20], 6, seed=8)
    turn = np.linalg.qr(stable(6, 6, 77))[0]
    turned = replace(candidates, vectors=np.asarray(candidates.vectors, dtype=np.float64) @ turn)
    a, b = score(candidates, 10, 0, Progress()), score(turned, 10, 0, Progress())
    assert a.rows.tolist() == b.rows.tolist()
    np.testing.assert_allclose(a.gains, b.gains, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(10)), st.permutations(range(10, 20)))
def test_row_order_does_not_matter_where_nothing_ties(first: list[int], second: list[int]) -> None:
    candidates, order = made([10, 10], 4, seed=9), np.array(first + second)
    moved = pool_of_vectors(np.asarray(candidates.vectors)[order], [10, 10], candidates.label_rate[order])
    picks, again = score(candidates, 6, 0, Progress()), score(moved, 6, 0, Progress())
    assert picks.rows.tolist() == order[again.rows].tolist()


def test_length_of_a_vector_does_not_matter() -> None:
    candidates = made([10, 10], 4, seed=10)
    scale = 2.0 ** np.arange(-10, 10)[:, None]
    longer = replace(candidates, vectors=np.asarray(candidates.vectors) * scale)
    assert score(longer, 6, 0, Progress()).rows.tolist() == score(candidates, 6, 0, Progress()).rows.tolist()


def test_ties_go_to_the_lower_label_rate_then_the_lower_row() -> None:
    # Four unit vectors tie as a first pick, although their computed norms differ in the last bits.
    vectors = stable(4, 3, 11)
    rates = np.array([0.5, 0.25, 0.25, 0.5])
    first = score(pool_of_vectors(vectors, [4], rates), 1, 0, Progress(), beta=0.0)
    assert first.rows.tolist() == [1]
    assert score(pool_of_vectors(vectors, [4]), 1, 0, Progress(), beta=0.0).rows.tolist() == [0]


def test_beta_trades_rate_for_cheap_labels() -> None:
    candidates = made([30], 5, seed=12)
    rates = [
        candidates.label_rate[score(candidates, 5, 0, Progress(), beta=beta).rows].mean() for beta in (0.0, 1.0, 100.0)
    ]
    assert rates[0] > rates[1] >= rates[2]
    cheapest = np.sort(candidates.label_rate)[:5].mean()
    assert rates[2] == pytest.approx(cheapest)


def test_single_precision_agrees_to_its_digits() -> None:
    candidates = made([40, 40], 16, seed=15)
    exact, single = score(candidates, 12, 0, Progress()), score(candidates, 12, 0, Progress(), precision="float32")
    assert single.rows.tolist() == exact.rows.tolist()
    np.testing.assert_allclose(single.gains, exact.gains, rtol=0, atol=1e-4)


@pytest.mark.gpu
def test_a_cuda_device_gives_the_same_picks() -> None:
    candidates = made([60, 50, 70], 24, seed=16)
    here, there = score(candidates, 20, 0, Progress()), score(candidates, 20, 0, Progress(), device="cuda")
    assert there.rows.tolist() == here.rows.tolist()
    np.testing.assert_allclose(there.gains, here.gains, rtol=0, atol=1e-9)


def test_errors_name_the_option_and_the_remedy() -> None:
    candidates = made([3, 3], 2)
    for options, sentence in (
        ({"eps2": 0.0}, "eps2 is 0.0: input should be greater than 0"),
        ({"coefficient": "fixed"}, "coefficient is 'fixed': input should be 'growing' or 'final'"),
        ({"precision": "half"}, "precision is 'half': input should be 'float64' or 'float32'"),
        ({"order": "any"}, "order is 'any': input should be 'rounds' or 'global'"),
        ({"alpha": -1.0}, "alpha is -1.0: input should be greater than or equal to 0"),
        ({"beta": float("nan")}, "beta is nan: input should be a finite number"),
        (
            {"order": "global", "coefficient": "final"},
            "coefficient 'final' needs the final size of every class, which order 'global' does not fix; use "
            "coefficient 'growing' or order 'rounds'",
        ),
    ):
        with pytest.raises(DataError) as error:
            score(candidates, 1, 0, Progress(), **options)
        assert str(error.value) == f"selector 'score': {sentence}"


def test_earlier_picks_are_resumed_and_rounds_reported() -> None:
    candidates = made([6, 6], 3, seed=14)
    reports: list[Picks] = []
    whole = score(candidates, 4, 0, Progress(report=reports.append))
    assert [report.rows.tolist() for report in reports] == [whole.rows[:n].tolist() for n in (2, 4, 6, 8)]
    reports.clear()
    resumed = score(candidates, 4, 0, Progress(earlier=Picks(whole.rows[:5], whole.gains[:5]), report=reports.append))
    assert resumed.rows.tolist() == whole.rows.tolist() and [len(report.rows) for report in reports] == [6, 8]


def test_alpha_has_no_effect_on_one_image_per_class_and_the_note_says_so() -> None:
    candidates = made([14, 11, 9], 5, seed=8)
    picks = [score(candidates, 1, 0, Progress(), alpha=alpha).rows.tolist() for alpha in (0.0, 0.1, 5.0, 100.0)]
    assert picks == [picks[0]] * 4
    assert note(1, {"alpha": 5.0}) == (
        "with ipc 1, alpha has no effect on score, which takes the images least like those of other classes; "
        "`selection.options: {start: medoid}` takes the most typical image of each class instead"
    )
    assert note(2, {}) is None and note(1, {"start": "medoid"}) is None and note(1, {"order": "global"}) is None
