"""The choice and the freezing of MDC's subsets, against a loop-by-loop reading of the rules; checkpoints and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis.gradients.subsets import Rules, Subsets
from dcpipe.types import DataError, IntArray

# ---------------------------------------------------------------------------------------------------------------------
# The choice


def test_table_7_gives_the_first_subset_and_a_relative_rate_the_last() -> None:
    """Differences of the paper's Table 7: 416 for n = 1 is the largest; 377 of 675 for n = 9 the largest share."""
    before = [3012, 1678, 1249, 1013, 896, 807, 738, 701, 675, 600]
    now = [2596, 1294, 891, 661, 514, 429, 373, 332, 298, 0]  # the whole set is no candidate
    for rate, expected in (("absolute", 1), ("relative", 9)):
        state = Subsets.begin(Rules(ipc=10, n_classes=1, period=50, rate=rate))
        state = state.after(0, torch.tensor([before])).after(49, torch.tensor([now]))
        assert state.sizes(50).tolist() == [expected]


def test_increases_count_like_decreases_and_ties_go_to_the_smaller_set() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=1, period=2)).after(0, torch.tensor([[5.0, 5, 5, 5]]))
    assert state.after(1, torch.tensor([[4.0, 7, 5, 50]])).sizes(2).tolist() == [2]
    assert state.after(1, torch.tensor([[4.0, 7, 3, 50]])).sizes(2).tolist() == [2]
    assert state.after(1, torch.tensor([[5.0, 5, 5, 50]])).sizes(2).tolist() == [1]


def test_distances_are_compared_with_the_last_measurement() -> None:
    state = Subsets.begin(Rules(ipc=3, n_classes=1, period=2)).after(0, torch.tensor([[9.0, 9, 0]]))
    state = state.after(1, torch.tensor([[9.0, 1, 0]]))
    assert state.sizes(2).tolist() == [2]
    assert state.after(3, torch.tensor([[8.0, 1, 0]])).sizes(4).tolist() == [1]


def test_a_distance_of_zero_has_no_rate_unless_it_grows() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=1, period=2, rate="relative"))
    state = state.after(0, torch.tensor([[0.0, 2, 0, 0]]))
    assert state.after(1, torch.tensor([[0.0, 3, 0, 0]])).sizes(2).tolist() == [2]
    assert state.after(1, torch.tensor([[0.0, 3, 1, 0]])).sizes(2).tolist() == [3]


def test_classes_share_the_choice_by_their_mean_or_choose_separately() -> None:
    before, now = torch.full((2, 4), 9.0), torch.tensor([[9.0, 8, 9, 9], [9, 9, 4, 9]])
    expected = {False: [3, 3], True: [2, 3]}
    for class_wise, sizes in expected.items():
        state = Subsets.begin(Rules(ipc=4, n_classes=2, period=5, class_wise=class_wise)).after(0, before)
        state = state.after(4, now)
        assert state.sizes(5).tolist() == sizes
        assert state.measured.shape[1] == (2 if class_wise else 1)


def test_opposite_changes_of_classes_cancel_in_the_mean() -> None:
    """|mean F(now) - mean F(before)|, not the mean of the classes' changes."""
    state = Subsets.begin(Rules(ipc=3, n_classes=2, period=5)).after(0, torch.zeros(2, 3))
    assert state.after(4, torch.tensor([[9.0, 1, 0], [-9.0, 1, 0]])).sizes(5).tolist() == [2, 2]


@pytest.mark.parametrize(("begin", "first"), [("code", 0), ("paper", 1)])
def test_only_the_paper_has_a_subset_term_in_the_first_loop(begin: str, first: int) -> None:
    state = Subsets.begin(Rules(ipc=5, n_classes=3, begin=begin))
    assert state.sizes(0).tolist() == [first] * 3
    assert state.sizes(1).tolist() == [1] * 3


def test_which_loops_measure() -> None:
    rules = Rules(ipc=5, n_classes=1, period=4)
    assert [loop for loop in range(14) if rules.measures(loop)] == [0, 3, 7, 11]
    assert [loop for loop in range(4) if Rules(ipc=5, n_classes=1, period=1).measures(loop)] == [0, 1, 2, 3]
    assert not any(Rules(ipc=5, n_classes=1, period=1, rate="off").measures(loop) for loop in range(4))


def test_with_rate_off_the_subset_never_changes() -> None:
    state = Subsets.begin(Rules(ipc=5, n_classes=1, rate="off"))
    assert [state.sizes(loop).tolist() for loop in (1, 500)] == [[1], [1]] and state.frozen(500).tolist() == [0]
    with pytest.raises(DataError, match="outer loop 99 does not measure with rate 'off' and period 100; check"):
        state.after(99, torch.zeros(1, 5))


# ---------------------------------------------------------------------------------------------------------------------
# Freezing


def distances_for(choices: IntArray, last: torch.Tensor) -> torch.Tensor:
    """Distances whose change is largest at n = choices[c] for every class c."""
    now = last.clone()
    now[torch.arange(len(choices)), torch.from_numpy(choices - 1)] += 1.0
    return now


def trace(rules: Rules, choices: IntArray) -> tuple[IntArray, IntArray]:
    """n* and frozen images of each loop and class when every window w, after the first, chooses `choices[w]`.

    `choices` i64 [windows, c]; those of window 0 are not used.
    """
    state, last = Subsets.begin(rules), torch.full((rules.n_classes, rules.ipc), 7.0)
    sizes, frozen = [], []
    for loop in range(rules.period * len(choices)):
        sizes.append(state.sizes(loop))
        frozen.append(state.frozen(loop))
        if rules.measures(loop):
            window = (loop + 1) // rules.period
            if loop > 0 and window < len(choices):
                last = distances_for(choices[window], last)
            state = state.after(loop, last)
    return np.array(sizes), np.array(frozen)


def windows(rules: Rules, chosen: list[int]) -> tuple[list[int], list[int]]:
    """n* and frozen images in the last loop of each window."""
    sizes, frozen = trace(rules, np.array(chosen)[:, None])
    ends = slice(rules.period - 1, None, rules.period)
    return sizes[ends, 0].tolist(), frozen[ends, 0].tolist()


SEQUENCES = [
    ("code", [1, 2, 3, 2, 4], [0, 1, 2, 1, 3]),
    ("code", [1, 2, 1, 3], [0, 1, 0, 2]),
    ("code", [1, 1, 2, 2, 5], [0, 0, 1, 1, 2]),
    ("code", [1, 3, 2], [0, 1, 1]),
    ("paper", [1, 2, 3, 2, 4], [0, 1, 2, 0, 2]),
    ("paper", [1, 2, 1, 3], [0, 1, 0, 1]),
    ("paper", [1, 1, 2, 2, 5], [0, 0, 1, 1, 2]),  # "otherwise, it remains unchanged"
    ("paper", [1, 3, 2], [0, 1, 0]),
    ("none", [1, 2, 3, 2, 4], [0, 0, 0, 0, 0]),
]


@pytest.mark.parametrize(("freeze", "chosen", "expected"), SEQUENCES)
@pytest.mark.parametrize("begin", ["code", "paper"])
def test_what_is_frozen_in_known_sequences(begin: str, freeze: str, chosen: list[int], expected: list[int]) -> None:
    sizes, frozen = windows(Rules(ipc=6, n_classes=1, period=4, begin=begin, freeze=freeze), chosen)
    assert sizes == chosen
    assert frozen == expected


def test_the_code_freezes_one_loop_late_only_after_the_first_change() -> None:
    late = {("code", "code"): 1, ("paper", "code"): 0, ("code", "paper"): 0, ("paper", "paper"): 0}
    for (begin, freeze), lag in late.items():
        rules = Rules(ipc=6, n_classes=1, period=100, begin=begin, freeze=freeze)
        _, frozen = trace(rules, np.array([[1], [2], [3]]))
        assert frozen[:, 0].tolist() == [0] * (100 + lag) + [1] * (100 - lag) + [2] * 100


def slow_code(chosen: list[int], begin: int) -> list[int]:
    """The official code, loop by loop: `chosen[t]` is n* of loop t (0 before the first), and each choice opens a window
    of `PERIOD` loops; a size whose window ends while another size is chosen counts as finished from then on."""
    ends: dict[int, int] = {}
    kept: set[int] = set()
    out = []
    for loop, size in enumerate(chosen):
        if loop == begin or (loop and loop % PERIOD == 0):
            ends[size] = loop + PERIOD
        kept |= {n for n, end in ends.items() if end == loop and n != size}
        out.append(max((n for n in kept if n < size), default=0))
    return out


def slow_paper(chosen: list[int]) -> list[int]:
    """Eq. 10: the predecessor when the choice last changed, if it is contained in the present one."""
    out = []
    for loop, size in enumerate(chosen):
        others = [n for n in chosen[:loop] if n not in (0, size)] if size else []
        before = next((n for n in reversed(chosen[:loop]) if n != size), 0)
        out.append(before if others and before < size else 0)
    return out


PERIOD = 3
CHOICES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8)


@given(CHOICES, st.sampled_from(["code", "paper"]), st.sampled_from(["code", "paper"]))
@settings(max_examples=60, deadline=None)
def test_freezing_follows_a_slow_implementation_of_the_rules(
    later: list[tuple[int, int]], first: str, freeze: str
) -> None:
    choices = np.array([(1, 1), *later])
    rules = Rules(ipc=6, n_classes=2, period=PERIOD, begin=first, freeze=freeze, class_wise=True)
    sizes, frozen = trace(rules, choices)
    begin = 1 if first == "code" else 0
    for label in range(2):
        expected = choices[np.arange(len(sizes)) // PERIOD, label].tolist()
        expected[:begin] = [0] * begin
        assert sizes[:, label].tolist() == expected
        slow = slow_code(expected, begin) if freeze == "code" else slow_paper(expected)
        assert frozen[:, label].tolist() == slow
        assert (frozen[:, label] < np.maximum(sizes[:, label], 1)).all()


def test_with_a_period_of_one_every_loop_chooses() -> None:
    rules = Rules(ipc=4, n_classes=1, period=1)
    state = Subsets.begin(rules).after(0, torch.zeros(1, 4)).after(1, torch.tensor([[0.0, 1, 0, 0]]))
    assert state.sizes(2).tolist() == [2] and state.frozen(2).tolist() == [1]


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints and refusals


@given(CHOICES, st.sampled_from(["code", "paper"]), st.sampled_from(["code", "paper", "none"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_record_contains_the_state_of_every_loop(
    later: list[tuple[int, int]], first: str, freeze: str, class_wise: bool
) -> None:
    choices = np.array([(1, 1), *later])
    if not class_wise:
        choices = choices[:, :1].repeat(2, axis=1)
    rules = Rules(ipc=6, n_classes=2, period=PERIOD, begin=first, freeze=freeze, class_wise=class_wise)
    sizes, frozen = trace(rules, choices)
    state, last = Subsets.begin(rules), torch.full((2, 6), 7.0)
    assert state.rows(0) == []
    for loop in range(len(sizes)):
        state = Subsets.resume(rules, state.entered(loop).state())
        assert state.entered(loop) is state, "a loop that is entered again, after a kill, is noted once"
        seen: dict[tuple[int, int], tuple[int, int]] = {}
        for row in state.rows(loop):
            for label in range(2) if row["class"] == -1 else [row["class"]]:
                assert (row["loop"], label) not in seen
                seen[row["loop"], label] = row["subset"], row["frozen"]
        noted = sorted({then for then, _ in seen})
        both = np.stack([sizes, frozen])
        moved = [then for then in range(loop + 1) if then == 0 or (both[:, then] != both[:, then - 1]).any()]
        assert noted == sorted({*moved, loop})
        for then, label in seen:
            assert seen[then, label] == (sizes[then, label], frozen[then, label])
        if rules.measures(loop):
            window = (loop + 1) // PERIOD
            if loop > 0 and window < len(choices):
                last = distances_for(choices[window], last)
            state = state.after(loop, last)


def test_rows_of_the_record() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=2, period=2, begin="code")).entered(0)
    state = state.after(0, torch.zeros(2, 4)).entered(1).after(1, torch.tensor([[0.0, 0, 1, 0]] * 2)).entered(2)
    names = ("loop", "class", "subset", "frozen")
    shared = [(0, -1, 0, 0), (1, -1, 1, 0), (2, -1, 3, 1), (7, -1, 3, 1)]
    assert state.rows(7) == [dict(zip(names, row, strict=True)) for row in shared]
    own = Subsets.begin(Rules(ipc=4, n_classes=2, period=2, class_wise=True)).entered(0)
    own = own.after(0, torch.zeros(2, 4)).after(1, torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]])).entered(2)
    each = [(0, 0, 1, 0), (0, 1, 1, 0), (2, 0, 3, 1), (2, 1, 1, 0)]
    assert own.rows(2) == [dict(zip(names, row, strict=True)) for row in each]


def test_rows_of_distances() -> None:
    """Means over classes unless these choose for themselves, in six digits, the whole set left out."""
    found = torch.tensor([[1.23456789, 2, 9], [3, 4, 9]], dtype=torch.float64)
    names = ("loop", "class", "size", "distance")
    shared = Subsets.begin(Rules(ipc=3, n_classes=2, period=2)).after(0, found).after(1, found / 2)
    rows = [(0, -1, 1, 2.11728), (0, -1, 2, 3.0), (1, -1, 1, 1.05864), (1, -1, 2, 1.5)]
    assert shared.distance_rows() == [dict(zip(names, row, strict=True)) for row in rows]
    own = Subsets.begin(Rules(ipc=3, n_classes=2, period=2, class_wise=True)).after(0, found)
    rows = [(0, 0, 1, 1.23457), (0, 0, 2, 2.0), (0, 1, 1, 3.0), (0, 1, 2, 4.0)]
    assert own.distance_rows() == [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize("class_wise", [False, True])
def test_a_run_resumed_at_any_loop_gives_the_same_result(tmp_path: Path, class_wise: bool) -> None:
    rules = Rules(ipc=5, n_classes=3, period=2, class_wise=class_wise)
    rng = np.random.default_rng(3)
    measured = torch.from_numpy(rng.normal(size=(12, 3, 5)))
    straight = halting = Subsets.begin(rules)
    seen = set()
    for loop in range(12):
        torch.save(halting.state(), tmp_path / "state.pt")
        halting = Subsets.resume(rules, torch.load(tmp_path / "state.pt", weights_only=True))
        assert halting.sizes(loop).tolist() == straight.sizes(loop).tolist()
        assert halting.frozen(loop).tolist() == straight.frozen(loop).tolist()
        seen |= set(straight.frozen(loop).tolist())
        if rules.measures(loop):
            straight, halting = straight.after(loop, measured[loop]), halting.after(loop, measured[loop])
    assert len(seen) > 1, "something was frozen"
    assert halting.distance_rows() == straight.distance_rows() != []
    with pytest.raises(DataError, match=r"checkpoint has \[classes, subsets\] = \[3, 4\], but the rules need \[3, 5\]"):
        Subsets.resume(Rules(ipc=6, n_classes=3), straight.state())


@pytest.mark.parametrize("class_wise", [False, True])
def test_a_state_shares_no_memory_with_its_inputs_and_outputs(class_wise: bool) -> None:
    total = torch.zeros(2, 3, dtype=torch.float64)
    state = Subsets.begin(Rules(ipc=3, n_classes=2, period=2, class_wise=class_wise)).after(0, total)
    kept = state.state()
    total += 5
    kept["measured"] += 5
    kept["chosen"] += 1
    assert (state.measured == 0).all() and state.sizes(1).tolist() == [1, 1]
    resumed = Subsets.resume(state.rules, kept)
    kept["chosen"] += 1
    assert resumed.chosen.tolist() == [2, 2]


REFUSALS = [
    ({"ipc": 1}, "ipc must be at least 2, got 1; a single image has no smaller set, use plain IDC"),
    ({"n_classes": 0}, "n_classes must be at least 1, got 0"),
]


@pytest.mark.parametrize(("change", "told"), REFUSALS)
def test_invalid_rules_are_errors(change: dict[str, object], told: str) -> None:
    with pytest.raises(DataError) as error:
        Rules(**{"ipc": 4, "n_classes": 2} | change)
    assert str(error.value) == f"subsets: {told}"


def test_invalid_distances_are_errors() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=2, period=5))
    bad = torch.ones(2, 4)
    bad[1, 2] = torch.nan
    told = "the distance of class 1, n = 3 is nan in outer loop 0; lower the learning rate of the images or the network"
    with pytest.raises(DataError, match=f"^subsets: {told}$"):
        state.after(0, bad)
    with pytest.raises(DataError, match=r"distances must be \[classes, images per class\] = \[2, 4\], got \[2, 3\]"):
        state.after(0, bad[:, :3])
    with pytest.raises(DataError, match="outer loop 3 does not measure with rate 'absolute' and period 5; check Ru"):
        state.after(3, torch.ones(2, 4))
