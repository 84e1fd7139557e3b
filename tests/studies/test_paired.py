"""Paired differences against scipy's paired t test and against numbers from a table of t."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dcpipe.studies.paired import differences, interval

BY = ("selector", "ipc")


def rows_of(accuracies: dict[tuple[str, int], dict[int, float | str]]) -> list[dict[str, Any]]:
    """Rows by (selector, ipc) and seed."""
    return [
        {"selector": name, "ipc": ipc, "seed": seed, "accuracy": accuracy}
        for (name, ipc), own in accuracies.items()
        for seed, accuracy in own.items()
    ]


percent = st.floats(0, 100)


@settings(max_examples=60)
@given(st.integers(3, 8).flatmap(lambda n: st.lists(st.tuples(percent, percent), min_size=n, max_size=n)), st.data())
def test_intervals_are_those_of_the_paired_t_test(pairs: list[tuple[float, float]], data: st.DataObject) -> None:
    first, second = zip(*pairs, strict=True)
    rows = rows_of({("random", 1): dict(enumerate(second)), ("score", 1): dict(enumerate(first))})
    rows = data.draw(st.permutations(rows))
    names = list(dict.fromkeys(row["selector"] for row in rows))
    found = dict(zip(names, differences(rows, BY, "selector", "random"), strict=True))
    assert set(found["random"].values()) == {""}
    score, apart = found["score"], [a - b for a, b in pairs]
    assert score["difference"] == pytest.approx(statistics.mean(first) - statistics.mean(second), abs=1e-3)
    assert score["difference_se"] == pytest.approx(stats.sem(apart), abs=1e-3)
    if statistics.stdev(apart) > 1e-3:  # scipy warns of equal differences
        low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
        assert score["difference_ci"] == pytest.approx((high - low) / 2, abs=1e-3)


def test_three_differences_of_one_two_and_three_points() -> None:
    """t for two degrees of freedom is 4.303 in every table; se is 1 / sqrt 3."""
    assert interval([1.0, 2.0, 3.0]) == {"difference": 2.0, "difference_se": 0.577, "difference_ci": 2.484}


def test_fewer_than_three_pairs_have_no_interval() -> None:
    assert interval([1.0, 2.0]) == {"difference": 1.5, "difference_se": "", "difference_ci": ""}
    assert set(interval([]).values()) == {""}


def test_what_a_seed_does_to_both_sides_cancels() -> None:
    rows = rows_of({("random", 1): {0: 10.0, 1: 50.0, 2: 90.0}, ("score", 1): {2: 91.0, 0: 11.0, 1: 51.0}})
    assert differences(rows, BY, "selector", "random")[1] == {
        "difference": 1.0,
        "difference_se": 0.0,
        "difference_ci": 0.0,
    }


def test_each_group_is_compared_where_everything_else_is_equal_and_seeds_without_accuracy_are_left_out() -> None:
    seeds: dict[int, float | str] = {0: 1.0, 1: 2.0, 2: 4.0, 3: ""}
    rows = rows_of(
        {
            ("score", 1): {0: 2.0, 1: 3.0, 2: 5.0, 3: 99.0},
            ("random", 10): {0: 10.0, 1: 20.0, 2: 30.0},
            ("random", 1): seeds,
            ("score", 10): {0: 9.0, 1: 18.0, 2: "", 3: 99.0},
            ("score", 50): {0: 9.0, 1: 18.0, 2: 3.0},
        }
    )
    found = [row["difference"] for row in differences(rows, BY, "selector", "random")]
    assert found == [1.0, "", "", -1.5, ""]
