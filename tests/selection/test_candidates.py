"""Candidates made from features, whatever the order of their table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcpipe.selection import candidates_of, candidates_without_features
from dcpipe.types import Features

CLASSES = ("ant", "bee", "cow")


def features_of(labels: list[int]) -> Features:
    """Features whose vectors and logits say which image they are of."""
    n = len(labels)
    rows = np.arange(n, dtype=np.float32)
    return Features(
        vectors=np.stack([rows, -rows], axis=1),
        logits=np.stack([rows, rows, rows], axis=1),
        label_rate=np.arange(n) / 8,
        ids=np.arange(n, dtype=np.int64) * 10,
        labels=np.array(labels, dtype=np.int64),
    )


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_every_image_stands_among_its_class_in_table_order(labels: list[int], tmp_path: Path) -> None:
    candidates = candidates_of(features_of(labels), CLASSES, tmp_path)
    for label in range(3):
        rows = candidates.rows(label)
        expected = [i for i, own in enumerate(labels) if own == label]
        assert np.asarray(candidates.vectors[rows])[:, 0].tolist() == expected
        assert np.asarray(candidates.logits[rows])[:, 2].tolist() == expected
        assert candidates.label_rate[rows].tolist() == [i / 8 for i in expected]
        assert candidates.ids is not None and candidates.ids[rows].tolist() == [10 * i for i in expected]


def test_logits_that_nobody_reads_are_not_sorted(tmp_path: Path) -> None:
    candidates = candidates_of(features_of([2, 0, 1, 0]), CLASSES, tmp_path)
    assert candidates.logits.shape == (4, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npy"]
    assert candidates.class_logits(0)[:, 0].tolist() == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logits.npy", "vectors.npy"]


def test_without_features_the_order_is_the_same_and_arrays_are_empty() -> None:
    labels = [2, 0, 1, 0, 2]
    table: Any = SimpleNamespace(labels=np.array(labels), ids=np.arange(5) * 10, classes=CLASSES)
    candidates = candidates_without_features(table)
    assert candidates.offsets.tolist() == [0, 2, 3, 5]
    assert candidates.ids is not None and candidates.ids.tolist() == [10, 30, 20, 0, 40]
    assert np.asarray(candidates.vectors).shape == np.asarray(candidates.logits).shape == (5, 0)
