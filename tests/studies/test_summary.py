"""Means and deviations of rows, worked out again from any order of rows."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies.summary import arranged, curve_points, grouped, rounded, spread, summarise

PLACES = [(name, ipc) for name in ("b", "a") for ipc in (1, 10)]


@settings(deadline=None, max_examples=50)
@given(
    accuracies=st.lists(st.floats(0, 100), min_size=12, max_size=12),
    sizes=st.lists(st.integers(1, 10**9), min_size=12, max_size=12),
    order=st.permutations(range(12)),
)
def test_a_summary_is_mean_and_deviation_by_group(accuracies: list[float], sizes: list[int], order: list[int]) -> None:
    """Rows of one group need not be adjacent; groups are in order of first appearance."""
    rows: list[dict[str, Any]] = [
        {
            "selector": PLACES[i % 4][0],
            "ipc": PLACES[i % 4][1],
            "seed": i // 4,
            "accuracy": accuracies[i],
            "bytes": sizes[i],
            "seconds": i / 8,
            "student": f"student of {i % 4}",
        }
        for i in order
    ]
    found = summarise(rows, ("selector", "ipc"), {"bytes": None, "seconds": 3}, same=("student",))
    assert [(row["selector"], row["ipc"]) for row in found] == list(dict.fromkeys(PLACES[i % 4] for i in order))
    for row in found:
        own = [r for r in rows if (r["selector"], r["ipc"]) == (row["selector"], row["ipc"])]
        assert row["accuracy"] == pytest.approx(statistics.mean(r["accuracy"] for r in own), abs=1e-3)
        assert row["std"] == pytest.approx(statistics.stdev(r["accuracy"] for r in own), abs=1e-3)
        assert row["seconds"] == pytest.approx(statistics.mean(r["seconds"] for r in own), abs=1e-3)
        assert isinstance(row["bytes"], int)
        assert abs(row["bytes"] - statistics.mean(r["bytes"] for r in own)) <= 0.5
        assert (row["student"], row["seeds"]) == (own[0]["student"], 3)
        assert list(row) == ["selector", "ipc", "accuracy", "std", "seeds", "bytes", "seconds", "student"]


def test_the_deviation_is_over_n_minus_one() -> None:
    assert spread([1.0, 2.0, 4.5]) == {"accuracy": 2.5, "std": 1.803}
    assert spread([1.0, 2.0, 4.5], "drop", "drop_std") == {"drop": 2.5, "drop_std": 1.803}


def test_where_there_is_no_number_there_is_no_mean() -> None:
    assert spread([]) == spread(["", ""]) == {"accuracy": "", "std": ""}
    [row] = summarise([{"a": 1, "accuracy": "", "b": b} for b in (2, 4)], ("a",), {"b": None})
    assert row == {"a": 1, "accuracy": "", "std": "", "seeds": 0, "b": 3}


def test_groups_keep_the_order_of_their_rows() -> None:
    rows = [{"a": a, "b": b} for a, b in ((1, "x"), (2, "y"), (1, "z"))]
    assert grouped(rows, ("a",)) == [[rows[0], rows[2]], [rows[1]]]


def test_columns_are_arranged_and_those_that_no_row_has_left_out() -> None:
    rows = [{"b": 1, "a": 2, "c": 3}, {"a": 5, "b": 4, "c": 6}]
    assert [list(row.items()) for row in arranged(rows, ("a", "swept", "b"))] == [
        [("a", 2), ("b", 1)],
        [("a", 5), ("b", 4)],
    ]


def test_results_have_three_decimals_or_nothing() -> None:
    assert rounded([{"accuracy": 12.34567, "x": 0.12345}, {"accuracy": "", "x": 1}]) == [
        {"accuracy": 12.346, "x": 0.12345},
        {"accuracy": "", "x": 1},
    ]


def test_points_are_means_over_seeds_at_each_tested_epoch() -> None:
    rows = [
        {"network": "a", "ipc": 1, "seed": seed, "curve": [[4, 10.0 + seed], [9, 20.0 + 2 * seed]]} for seed in range(3)
    ]
    found = curve_points([*rows, {"network": "b", "ipc": 1, "seed": 0}], ("network", "ipc"))
    assert [(row["epoch"], row["accuracy"], row["std"], row["seeds"]) for row in found] == [
        (5, 11.0, 1.0, 3),
        (10, 22.0, 2.0, 3),
    ]
