"""Learning-rate schedules against their formulas, at every epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dcpipe.training import Recipe, schedules
from dcpipe.training.schedules import Moment


@pytest.mark.parametrize("zeta", [1.0, 1.5, 2.0])
def test_smoothing_is_its_formula_at_each_epoch(zeta: float) -> None:
    recipe = Recipe(4, lr=0.02, schedule="smoothing", zeta=zeta)
    expected = [0.02 * 0.5 * (1 + math.cos(math.pi * e / (zeta * 4))) for e in range(4)]
    np.testing.assert_allclose([recipe.rate(e, []) for e in range(4)], expected, rtol=1e-12)


def test_constant_never_changes_the_rate() -> None:
    recipe = Recipe(4, lr=0.02, schedule="constant")
    assert [recipe.rate(e, []) for e in range(4)] == [0.02] * 4


def slow_rates(schedule: str, n: int, zeta: float) -> list[float]:
    """Shares of the base rate by epoch, from the papers' formulas."""
    rates = []
    for e in range(n):
        if schedule == "linear":
            rates.append(1 - e / (zeta * n))
        elif e <= 5 * n / 6:
            rates.append((1 + math.cos(e * math.pi / (zeta * n))) / 2)
        else:
            rates.append((1 + math.cos(5 * math.pi / (zeta * 6))) / 2 * (6 * n - 6 * e) / (6 * n))
    return rates


@pytest.mark.parametrize("zeta", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("n", [1, 4, 7, 12, 300])
@pytest.mark.parametrize("schedule", ["linear", "ssrs"])
def test_linear_and_ssrs_are_their_formulas_at_each_epoch(schedule: str, n: int, zeta: float) -> None:
    recipe = Recipe(n, lr=0.5, schedule=schedule, zeta=zeta)
    found = [recipe.rate(epoch, []) for epoch in range(n)]
    np.testing.assert_allclose(found, [0.5 * rate for rate in slow_rates(schedule, n, zeta)], rtol=1e-12)


def at(epoch: float, **options: Any) -> Moment:
    return Moment(epoch, 300, **options)  # type: ignore[arg-type]  # just past an epoch


def test_schedules_end_where_the_papers_say() -> None:
    assert [schedules.smoothing(at(0)), schedules.linear(at(0)), schedules.ssrs(at(0))] == [1, 1, 1]
    assert schedules.smoothing(at(300)) == pytest.approx(0.0, abs=1e-15)
    assert schedules.smoothing(at(300, zeta=2.0)) == pytest.approx(0.5)
    assert schedules.linear(at(300)) == 0.0 and schedules.linear(at(300, zeta=2.0)) == 0.5
    assert schedules.ssrs(at(300, zeta=2.0)) == 0.0


def test_ssrs_is_smoothing_up_to_five_sixths_and_then_starts_from_a_sixth_of_it() -> None:
    """The printed formula jumps: the second branch's factor (N - e) / N is 1/6 where it takes over."""
    for zeta in (1.0, 2.0):
        left, right = schedules.ssrs(at(250, zeta=zeta)), schedules.ssrs(at(250 + 1e-9, zeta=zeta))
        assert left == schedules.smoothing(at(250, zeta=zeta))
        assert right == pytest.approx(left / 6)
    assert (left, right) == (pytest.approx(0.6294, abs=1e-4), pytest.approx(0.1049, abs=1e-4))


@pytest.mark.parametrize("milestones", [(800, 900, 950), (0.8, 0.9, 0.95)])
def test_multistep_halves_at_each_milestone(milestones: tuple[float, ...]) -> None:
    """EDC's CIFAR-10: torch's MultiStepLR with milestones as epochs, or as fractions of them."""
    recipe = Recipe(1000, lr=1.0, schedule="multistep", milestones=milestones, decay_factor=0.5)
    found = [recipe.rate(epoch, []) for epoch in range(1000)]
    assert found == [1.0] * 800 + [0.5] * 100 + [0.25] * 50 + [0.125] * 50


def test_alrs_slows_down_where_the_loss_stands_still_by_both_measures() -> None:
    recipe = Recipe(7, lr=1.0, schedule="alrs", decay_factor=0.5)
    # |step| <= 0.02 and |step| / |new| <= 0.02:   no    yes    no: 1%, 0.05   yes    no: 5%, 0.005
    losses = [9.0, 5.0, 5.01, 5.06, 5.06, 0.1, 0.105]
    assert [recipe.rate(epoch, losses[:epoch]) for epoch in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert recipe.rate(1, losses) == 1  # later losses are not looked at
    rng = np.random.default_rng(0)
    losses = list(np.cumsum(rng.normal(0, 0.02, 40)) + rng.choice([0.3, 3], 40))
    rates, rate = [1.0], 1.0
    for i in range(1, 40):
        step = abs(losses[i] - losses[i - 1])
        rate *= 0.5 if i and step / abs(losses[i]) <= 0.02 and step <= 0.02 else 1
        rates.append(rate)
    long = Recipe(41, lr=1.0, schedule="alrs", decay_factor=0.5)
    assert [long.rate(epoch + 1, losses) for epoch in range(40)] == rates and rate < 1


def test_alrs_of_the_code_is_strict_and_slows_down_the_first_group_alone() -> None:
    losses = [5.0, 5.0, 1.0, 1.01, 0.0, 0.0, 9.0]  # steps of 0, 4, 0.01, 1.01 and 0, the last at the bound of 0.02 * 0
    rates = {
        schedule: [Recipe(9, lr=1.0, schedule=schedule, decay_factor=0.5).rate(e, losses[:e]) for e in range(8)]
        for schedule in ("alrs", "alrs_code")
    }
    assert rates["alrs_code"] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert rates["alrs"] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    recipe = Recipe(20, lr=2.0, schedule="alrs_code", decay_factor=0.5, warmup=2)
    assert recipe.rates(1, losses, 2) == pytest.approx([2 * 0.505] * 2)
    assert recipe.rates(7, [3.0, 2.0, *losses], 3) == [0.5, 2.0, 2.0]
    assert recipe.rates(7, [3.0, 2.0, *losses], 1) == [0.5]
    assert Recipe(20, lr=2.0, schedule="alrs", decay_factor=0.5).rates(5, losses, 2) == [0.5, 0.5]


@pytest.mark.parametrize("schedule", ["smoothing", "constant", "linear", "ssrs", "multistep", "alrs", "alrs_code"])
def test_a_warm_up_rises_to_a_schedule_of_the_epochs_left(schedule: str) -> None:
    losses = [5.0, 5.0, 5.0, 4.0, 3.0, 3.0, 3.0, 2.0, 2.0, 1.0]
    options = {"lr": 2.0, "schedule": schedule, "milestones": (2, 0.75), "zeta": 1.5}
    warm = Recipe(10, warmup=4, **options)
    found = [warm.rate(epoch, losses[:epoch]) for epoch in range(10)]
    assert found[:4] == pytest.approx([2 * (0.01 + 0.99 * epoch / 4) for epoch in range(4)])
    later = Recipe(6, **options)
    assert found[4:] == [later.rate(epoch, losses[4 : 4 + epoch]) for epoch in range(6)]
