"""Converts the features of a table to candidates, sorted by class, so that a selector can load one class at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcpipe import store
from dcpipe.selection.base import Candidates
from dcpipe.types import Features, ImageTable


def candidates_of(features: Features, classes: tuple[str, ...], folder: Path) -> Candidates:
    """All images that have features. Vectors and logits are sorted by class into files in `folder` and memory-mapped,
    so that one class at a time is in memory, whatever the order of the source. Logits are sorted when they are first
    read, because many selectors never look at them."""
    order, offsets = store.by_label(features.labels, len(classes))
    vectors = store.sorted_rows(features.vectors, order, folder / "vectors.npy")
    logits = store.RowsSortedWhenRead(features.logits, order, folder / "logits.npy")
    return Candidates(vectors, logits, features.label_rate[order], offsets, classes, features.ids[order])


def candidates_without_features(table: ImageTable) -> Candidates:
    """All images of a table, for a selector that uses no features, such as `random`."""
    order, offsets = store.by_label(table.labels, len(table.classes))
    nothing = np.zeros((len(order), 0), dtype=np.float32)
    return Candidates(nothing, nothing, np.zeros(len(order)), offsets, table.classes, table.ids[order])
