"""MDC's subsets: distances against plain loops, choices and freezing against a loop-by-loop reading of the rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.synthesis.gradients.subsets import METRICS, Measurements, Rules, Subsets, prefix_weights, trainable_mask
from dcpipe.types import DataError, FloatArray, IntArray

CPU = torch.device("cpu")
IMAGE_MAJOR = st.sampled_from([True, False])


def owners_of(n: int, factor: int, by_image: bool) -> IntArray:
    """Cell-major decoding: cell 0 of all n images first. By cells, the first n f^2 decoded ones are S[n]."""
    d = n * factor * factor
    return np.arange(d) % n if by_image else np.arange(d) // factor**2


def members(size: int, n: int, factor: int, by_image: bool) -> list[int]:
    """The decoded images of S[size], from the words of the paper and of the official code."""
    if by_image:
        return [cell * n + image for cell in range(factor**2) for image in range(size)]
    return list(range(size * factor**2))


def slow_distances(real: FloatArray, synthetic: FloatArray, subsets: list[list[int]]) -> FloatArray:
    out = np.zeros((len(real), len(subsets)))
    for label in range(len(real)):
        for column, inside in enumerate(subsets):
            goal = sum(real[label]) / len(real[label])
            found = sum(synthetic[label, j] for j in inside) / len(inside)
            out[label, column] = ((goal - found) ** 2).sum()
    return out


@given(st.integers(1, 4), st.integers(1, 3), IMAGE_MAJOR, st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_feature_distances_are_those_of_every_subset_by_itself(n: int, factor: int, by_image: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(3, 5, 2, 3, 3))
    synthetic = rng.normal(size=(3, n * factor**2, 2, 3, 3))
    weights = prefix_weights(owners_of(n, factor, by_image), CPU)
    subsets = [members(size, n, factor, by_image) for size in range(1, n + 1)]
    expected = slow_distances(real, synthetic, subsets)
    found = METRICS["feature"](Measurements(torch.tensor(real), torch.tensor(synthetic), weights))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    single = Measurements(torch.tensor(real).float(), torch.tensor(synthetic).float().requires_grad_(), weights)
    halved = METRICS["feature"](single)
    assert halved.dtype == torch.float64 and not halved.requires_grad
    np.testing.assert_allclose(halved.numpy(), expected, rtol=1e-5)


def test_by_image_and_by_cell_are_different_subsets() -> None:
    """Ten images, f = 2: S[3] by cells holds cells of all of them (facts of the official code)."""
    by_cell = prefix_weights(owners_of(10, 2, False), CPU)[2].nonzero().flatten()
    assert by_cell.tolist() == list(range(12))
    by_image = prefix_weights(owners_of(10, 2, True), CPU)[2].nonzero().flatten()
    assert by_image.tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]
    assert torch.equal(prefix_weights(owners_of(4, 1, True), CPU), prefix_weights(owners_of(4, 1, False), CPU))


def test_weights_of_a_subset_add_up_to_one_where_images_decode_to_different_numbers() -> None:
    weights = prefix_weights(np.array([0, 0, 1, 2, 2, 2]), CPU)
    expected = [[1 / 2, 1 / 2, 0, 0, 0, 0], [1 / 3] * 3 + [0, 0, 0], [1 / 6] * 6]
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-15)


def test_an_image_that_decodes_to_nothing_is_refused() -> None:
    told = "stored image [1] decodes to no training image; owners must name every image from 0 to 2"
    with pytest.raises(DataError, match=told.replace("[", r"\[").replace("]", r"\]")):
        prefix_weights(np.array([0, 2, 2]), CPU)


def test_the_other_metrics_of_table_5() -> None:
    gradients, accuracies = torch.tensor([[3.0, 5.0], [1.0, 4.0], [0.5, 2.0]]), torch.tensor([[0.25, 0.5], [0.5, 1.0]])
    assert METRICS["gradient"](Measurements(gradients=gradients)).tolist() == [[3.0, 1.0, 0.5], [5.0, 4.0, 2.0]]
    assert METRICS["accuracy"](Measurements(accuracies=accuracies)).tolist() == [[0.75, 0.5], [0.5, 0.0]]
    assert {METRICS[name](e).dtype for name, e in cases()} == {torch.float64}
    assert {name for name, _ in cases()} == set(METRICS)


def cases() -> list[tuple[str, Measurements]]:
    some = torch.ones(2, 3, 4)
    return [
        ("feature", Measurements(some, some, prefix_weights(np.arange(3), CPU))),
        ("gradient", Measurements(gradients=torch.ones(3, 2))),
        ("accuracy", Measurements(accuracies=torch.ones(2, 3))),
    ]


@pytest.mark.parametrize(
    ("metric", "needs"), [("feature", "real"), ("gradient", "gradients"), ("accuracy", "accuracies")]
)
def test_a_metric_says_what_it_lacks(metric: str, needs: str) -> None:
    told = rf"^subsets: metric '{metric}' needs {needs}, which are not given; pass Measurements\({needs}=...\)$"
    with pytest.raises(DataError, match=told):
        METRICS[metric](Measurements())


# ---------------------------------------------------------------------------------------------------------------------
# The choice


def test_table_7_chooses_the_first_subset_and_a_relative_rate_the_last() -> None:
    """Differences of the paper's Table 7: 416 for n = 1 is the largest; 377 of 675 for n = 9 the largest share."""
    before = [3012, 1678, 1249, 1013, 896, 807, 738, 701, 675, 600]
    now = [2596, 1294, 891, 661, 514, 429, 373, 332, 298, 0]  # the whole set is no candidate
    for rate, expected in (("absolute", 1), ("relative", 9)):
        state = Subsets.begin(Rules(ipc=10, n_classes=1, period=50, rate=rate))
        state = state.after(0, torch.tensor([before])).after(49, torch.tensor([now]))
        assert state.sizes(50).tolist() == [expected]


def test_a_rise_counts_as_a_fall_does_and_ties_go_to_the_smaller_set() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=1, period=2)).after(0, torch.tensor([[5.0, 5, 5, 5]]))
    assert state.after(1, torch.tensor([[4.0, 7, 5, 50]])).sizes(2).tolist() == [2]
    assert state.after(1, torch.tensor([[4.0, 7, 3, 50]])).sizes(2).tolist() == [2]
    assert state.after(1, torch.tensor([[5.0, 5, 5, 50]])).sizes(2).tolist() == [1]


def test_the_last_measurement_is_what_is_compared_with() -> None:
    state = Subsets.begin(Rules(ipc=3, n_classes=1, period=2)).after(0, torch.tensor([[9.0, 9, 0]]))
    state = state.after(1, torch.tensor([[9.0, 1, 0]]))
    assert state.sizes(2).tolist() == [2]
    assert state.after(3, torch.tensor([[8.0, 1, 0]])).sizes(4).tolist() == [1]


def test_a_distance_of_zero_has_no_rate_unless_it_grows() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=1, period=2, rate="relative"))
    state = state.after(0, torch.tensor([[0.0, 2, 0, 0]]))
    assert state.after(1, torch.tensor([[0.0, 3, 0, 0]])).sizes(2).tolist() == [2]
    assert state.after(1, torch.tensor([[0.0, 3, 1, 0]])).sizes(2).tolist() == [3]


def test_classes_share_the_choice_of_their_mean_or_have_their_own() -> None:
    before, now = torch.full((2, 4), 9.0), torch.tensor([[9.0, 8, 9, 9], [9, 9, 4, 9]])
    expected = {False: [3, 3], True: [2, 3]}
    for class_wise, sizes in expected.items():
        state = Subsets.begin(Rules(ipc=4, n_classes=2, period=5, class_wise=class_wise)).after(0, before)
        state = state.after(4, now)
        assert state.sizes(5).tolist() == sizes
        assert len(state.last) == (2 if class_wise else 1)


def test_a_mean_of_classes_cancels_what_goes_opposite_ways() -> None:
    """|mean F(now) - mean F(before)|, not the mean of the classes' changes."""
    state = Subsets.begin(Rules(ipc=3, n_classes=2, period=5)).after(0, torch.zeros(2, 3))
    assert state.after(4, torch.tensor([[9.0, 1, 0], [-9.0, 1, 0]])).sizes(5).tolist() == [2, 2]


@pytest.mark.parametrize(("begin", "first"), [("code", 0), ("paper", 1)])
def test_the_first_loop_has_a_subset_term_only_on_paper(begin: str, first: int) -> None:
    state = Subsets.begin(Rules(ipc=5, n_classes=3, begin=begin))
    assert state.sizes(0).tolist() == [first] * 3
    assert state.sizes(1).tolist() == [1] * 3


def test_when_it_is_measured() -> None:
    rules = Rules(ipc=5, n_classes=1, period=4)
    assert [loop for loop in range(14) if rules.measures(loop)] == [0, 3, 7, 11]
    assert [loop for loop in range(4) if Rules(ipc=5, n_classes=1, period=1).measures(loop)] == [0, 1, 2, 3]
    assert not any(Rules(ipc=5, n_classes=1, period=1, rate="off").measures(loop) for loop in range(4))


def test_without_a_rate_the_first_subset_is_taught_for_ever() -> None:
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

    `choices` i64 [windows, c]; those of window 0 are not asked for.
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


def test_the_code_freezes_one_loop_late_after_the_first_switch_only() -> None:
    late = {("code", "code"): 1, ("paper", "code"): 0, ("code", "paper"): 0, ("paper", "paper"): 0}
    for (begin, freeze), lag in late.items():
        rules = Rules(ipc=6, n_classes=1, period=100, begin=begin, freeze=freeze)
        _, frozen = trace(rules, np.array([[1], [2], [3]]))
        assert frozen[:, 0].tolist() == [0] * (100 + lag) + [1] * (100 - lag) + [2] * 100


def slow_code(chosen: list[int], begin: int) -> list[int]:
    """The official machine, loop by loop: `chosen[t]` is n* of loop t (0 before the first), whose windows last `PERIOD`
    loops from each choice on; a size whose window ends while another is chosen is kept frozen for ever."""
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
def test_freezing_is_what_a_slow_reading_of_the_rules_finds(
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


@given(st.integers(1, 4), st.integers(1, 2), IMAGE_MAJOR, st.lists(st.integers(0, 3), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_the_mask_is_zero_in_the_frozen_subset_alone(n: int, factor: int, by_image: bool, frozen: list[int]) -> None:
    frozen = [min(size, n - 1) for size in frozen]
    found = trainable_mask(np.array(frozen), owners_of(n, factor, by_image), CPU)
    assert found.dtype == torch.float32
    for row, size in zip(found.tolist(), frozen, strict=True):
        still = members(size, n, factor, by_image)
        assert row == [0.0 if j in still else 1.0 for j in range(n * factor**2)]


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints and refusals


@given(CHOICES, st.sampled_from(["code", "paper"]), st.sampled_from(["code", "paper", "none"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_record_tells_what_held_in_every_loop(
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


@pytest.mark.parametrize("class_wise", [False, True])
def test_a_checkpoint_at_any_loop_goes_on_alike(tmp_path: Path, class_wise: bool) -> None:
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
    with pytest.raises(DataError, match=r"checkpoint has \[classes, subsets\] = \[3, 4\], but the rules need \[3, 5\]"):
        Subsets.resume(Rules(ipc=6, n_classes=3), straight.state())


@pytest.mark.parametrize("class_wise", [False, True])
def test_a_state_keeps_nothing_that_others_may_write_to(class_wise: bool) -> None:
    total = torch.zeros(2, 3, dtype=torch.float64)
    state = Subsets.begin(Rules(ipc=3, n_classes=2, period=2, class_wise=class_wise)).after(0, total)
    kept = state.state()
    total += 5
    kept["last"] += 5
    kept["chosen"] += 1
    assert (state.last == 0).all() and state.sizes(1).tolist() == [1, 1]
    resumed = Subsets.resume(state.rules, kept)
    kept["chosen"] += 1
    assert resumed.chosen.tolist() == [2, 2]


REFUSALS = [
    ({"ipc": 1}, "ipc must be at least 2, got 1; a single image has no smaller set, use plain IDC"),
    ({"n_classes": 0}, "n_classes must be at least 1, got 0"),
]


@pytest.mark.parametrize(("change", "told"), REFUSALS)
def test_rules_that_cannot_be_are_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(DataError) as error:
        Rules(**{"ipc": 4, "n_classes": 2} | change)
    assert str(error.value) == f"subsets: {told}"


def test_distances_that_mean_nothing_are_refused() -> None:
    state = Subsets.begin(Rules(ipc=4, n_classes=2, period=5))
    bad = torch.ones(2, 4)
    bad[1, 2] = torch.nan
    told = "the distance of class 1, n = 3 is nan in outer loop 0; lower the learning rate of the images or the network"
    with pytest.raises(DataError, match=f"^subsets: {told}$"):
        state.after(0, bad)
    with pytest.raises(DataError, match=r"distances must be \[classes, images per class\] = \[2, 4\], got \[2, 3\]"):
        state.after(0, bad[:, :3])
    with pytest.raises(DataError, match="outer loop 3 does not measure with rate 'absolute' and period 5; ask Ru"):
        state.after(3, torch.ones(2, 4))


@pytest.mark.gpu
def test_the_gpu_finds_the_same_distances() -> None:
    cuda = torch.device("cuda")
    real, synthetic, owners = torch.randn(3, 64, 16, 4, 4), torch.randn(3, 40, 16, 4, 4), owners_of(10, 2, True)
    one = METRICS["feature"](Measurements(real, synthetic, prefix_weights(owners, CPU)))
    other = METRICS["feature"](Measurements(real.to(cuda), synthetic.to(cuda), prefix_weights(owners, cuda)))
    torch.testing.assert_close(other.cpu(), one, rtol=1e-9, atol=1e-9)
    assert torch.equal(
        trainable_mask(np.array([2, 0]), owners, cuda).cpu(), trainable_mask(np.array([2, 0]), owners, CPU)
    )
