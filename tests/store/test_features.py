"""Features as they are read, with and without a shortlist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kinds import IDS, KINDS, LABELS, write_features

from dcpipe import store


def test_features_are_read(tmp_path: Path) -> None:
    KINDS["features"].publish(tmp_path)
    features = store.load_features(tmp_path / "out")
    vectors = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_array_equal(features.vectors[1:3], vectors[1:3])
    np.testing.assert_array_equal(features.label_rate, np.random.default_rng(0).normal(size=4))
    assert (features.ids.tolist(), features.labels.tolist(), features.rank) == (IDS.tolist(), LABELS.tolist(), None)


def test_rates_that_a_shortlist_did_not_measure_are_infinite(tmp_path: Path) -> None:
    root, rank = tmp_path / "root", np.array([1, -1, 0, -1])
    root.mkdir()
    meta = write_features(root)
    store.write_columns(root / "keys.parquet", {"id": IDS, "label": LABELS, "rank": rank})
    store.publish(root, tmp_path / "out", "features", meta, {})
    features = store.load_features(tmp_path / "out")
    assert features.rank is not None and features.rank.tolist() == rank.tolist()
    assert np.isfinite(features.label_rate).tolist() == [True, False, True, False]
