"""The drop: paired by seed, worked out again from a slow table, and nothing said of what was not reached."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies import resilience

SEEDS = (3, 0, 7)
RATIOS = ("", 1.25, 10.0)


def row(selector: str, ratio: Any, seed: int, accuracy: Any, size: int = 100, note: str = "") -> dict[str, Any]:
    place = {"selector": selector, "ipc": 10, "ratio": ratio, "seed": seed, "picks": "p", "label_rate": 1.5}
    return {**place, "accuracy": accuracy, "image_bytes": 50, "label_bytes": size, "note": note}


@settings(deadline=None, max_examples=50)
@given(accuracies=st.lists(st.floats(0, 100), min_size=18, max_size=18), shuffle=st.integers(0, 100))
def test_a_drop_is_of_the_same_seed_whatever_the_order_of_rows(accuracies: list[float], shuffle: int) -> None:
    table = np.array(accuracies).reshape(2, 3, 3)  # selector, ratio, seed
    rows = [
        row(name, ratio, seed, table[i, j, k])
        for i, name in enumerate(("b", "a"))
        for j, ratio in enumerate(RATIOS)
        for k, seed in enumerate(SEEDS)
    ]
    random.Random(shuffle).shuffle(rows)
    found = {(its["selector"], its["ratio"]): its for its in resilience.summary(rows, 1000)}
    assert len(found) == 6
    for i, name in enumerate(("b", "a")):
        for j, ratio in enumerate(RATIOS):
            its, own, drops = found[name, ratio], table[i, j], table[i, 0] - table[i, j]
            assert its["accuracy"] == pytest.approx(own.mean(), abs=1e-3)
            assert its["std"] == pytest.approx(own.std(ddof=1), abs=1e-3)
            # The mean of drops is the drop of means; the deviation is of the differences.
            assert its["drop"] == pytest.approx(table[i, 0].mean() - own.mean(), abs=1e-3)
            assert its["drop_std"] == pytest.approx(drops.std(ddof=1), abs=1e-3)
            assert (its["seeds"], its["fp16_label_bytes"]) == (3, 1000)
        assert (found[name, ""]["drop"], found[name, ""]["drop_std"]) == (0, 0)


def test_coresets_of_unequal_accuracy_that_lose_the_same_have_no_deviation() -> None:
    rows = [row("a", "", s, 50.0 + 10 * s) for s in SEEDS] + [row("a", 2.0, s, 48.0 + 10 * s) for s in SEEDS]
    its = resilience.summary(rows, 1)[1]
    assert (its["drop"], its["drop_std"], its["std"]) == (2, 0, pytest.approx(35.119, abs=1e-3))


def test_rows_keep_their_order_and_bytes_are_means() -> None:
    rows = [row(name, ratio, seed, 50.0, size=100 + seed) for name in "ba" for ratio in RATIOS for seed in SEEDS]
    found = resilience.summary(rows, 1)
    assert [(its["selector"], its["ratio"]) for its in found] == [(name, ratio) for name in "ba" for ratio in RATIOS]
    assert [its["label_bytes"] for its in found] == [103] * 6
    assert (found[0]["image_bytes"], found[0]["label_rate"], found[0]["ipc"]) == (50, 1.5, 10)


def test_a_ratio_that_one_seed_did_not_reach_has_a_note_and_no_numbers() -> None:
    rows = [row("a", "", s, 50.0) for s in SEEDS] + [row("a", 2.0, 3, 48.0), row("a", 2.0, 0, "", 0, "too few bytes")]
    its = resilience.summary([*rows, row("a", 2.0, 7, 47.0)], 1)[1]
    assert (its["note"], its["seeds"], its["label_bytes"]) == ("too few bytes", 0, 0)
    assert {its[key] for key in ("accuracy", "std", "drop", "drop_std")} == {""}
