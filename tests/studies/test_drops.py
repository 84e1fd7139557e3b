"""The drop: computed again from a slow table, paired by seed within a set, and empty without accuracies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies.drops import SHOWN, drops
from dcpipe.studies.summary import grouped

SETS = (("a", 1), ("a", 10), ("b", 1))
PACKINGS = (("svd", 2.0), ("uncompressed", ""), ("mean label", ""), ("svd", 5.0), ("topk", 2.0))
SEEDS = (3, 0, 7)


@settings(deadline=None, max_examples=50)
@given(
    accuracies=st.lists(st.floats(0, 100), min_size=45, max_size=45),
    order=st.permutations(range(45)),
    missing=st.sets(st.sampled_from([(0, 0), (1, 3), (2, 4), (2, 2)])),
)
def test_a_drop_is_to_the_same_set_and_seed(
    accuracies: list[float], order: list[int], missing: set[tuple[int, int]]
) -> None:
    """Rows in any order; uncompressed labels are not the first."""
    table = np.array(accuracies).reshape(3, 5, 3)  # set, packing, seed
    rows: list[dict[str, Any]] = []
    for number in order:
        i, j, k = np.unravel_index(number, table.shape)
        place = {"variant": SETS[i][0], "ipc": SETS[i][1], "codec": PACKINGS[j][0], "ratio": PACKINGS[j][1]}
        accuracy = "" if (i, j) in missing else float(table[i, j, k])
        rows.append({**place, "seed": SEEDS[k], "accuracy": accuracy})
    found = drops(rows, ("variant", "ipc"))
    groups = grouped(rows, ("variant", "ipc", "codec", "ratio"))
    assert len(found) == len(groups) == 15
    for row, group in zip(found, groups, strict=True):
        i = SETS.index((group[0]["variant"], group[0]["ipc"]))
        j = PACKINGS.index((group[0]["codec"], group[0]["ratio"]))
        if (i, j) in missing:
            assert row == {"drop": "", "drop_std": ""}
            continue
        expected = [table[i, 1, k] - table[i, j, k] for k in range(3)]
        assert row["drop"] == pytest.approx(np.mean(expected), abs=1e-3)
        assert row["drop_std"] == pytest.approx(np.std(expected, ddof=1), abs=1e-3)


def test_the_column_is_empty_where_nothing_was_lost_by_definition() -> None:
    row = {"codec": "svd", "drop": "1.26", "drop_std": "0.5"}
    assert SHOWN[-1].show(row) == "1.3 ± 0.5"
    assert SHOWN[-1].show({**row, "codec": "mean label"}) == "1.3 ± 0.5"
    assert SHOWN[-1].show({**row, "codec": "uncompressed"}) == SHOWN[-1].show({**row, "drop": ""}) == ""
