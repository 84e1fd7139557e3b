"""Candidates for the tests of selection: from vectors, from logits, or both, and numbers that never change."""

from __future__ import annotations

import numpy as np

from dcpipe.random import philox, uniform
from dcpipe.selection import Candidates
from dcpipe.types import FloatArray


def stable(n: int, d: int, seed: int = 0) -> FloatArray:
    """Numbers in [-1, 1) that never change between versions: the base of golden picks."""
    return uniform(philox(seed, np.arange(n)[:, None], 0, np.arange(d)[None, :]))[..., 0] * 2 - 1


def pool_of(
    vectors: FloatArray, logits: FloatArray, sizes: list[int], label_rate: FloatArray | None = None
) -> Candidates:
    """Classes of these sizes, in this order of rows; rates are 0 unless given."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    n = int(offsets[-1])
    assert len(vectors) == len(logits) == n
    rate = np.zeros(n) if label_rate is None else label_rate
    return Candidates(vectors.astype(np.float32), logits.astype(np.float32), rate, offsets)


def pool_of_vectors(vectors: FloatArray, sizes: list[int], label_rate: FloatArray | None = None) -> Candidates:
    """For selectors that do not look at logits."""
    return pool_of(vectors, np.zeros((sum(sizes), len(sizes))), sizes, label_rate)


def pool_of_logits(logits: FloatArray, sizes: list[int]) -> Candidates:
    """For selectors that do not look at vectors."""
    return pool_of(np.zeros((sum(sizes), 2)), logits, sizes)
