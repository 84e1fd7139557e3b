"""Candidates for the tests of selection, numbers that never change, and gradients written out."""

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


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities of rows of logits, in float64."""
    wide = np.asarray(logits, dtype=np.float64)
    odds = np.exp(wide - wide.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def written_out(p: FloatArray, h: FloatArray, targets: list[int], bias: bool) -> FloatArray:
    """One gradient a row: the outer product of p - y and h, then p - y."""
    rows = []
    for probabilities, vector, target in zip(p, np.asarray(h, dtype=np.float64), targets, strict=True):
        error = probabilities - np.eye(p.shape[1])[target]
        rows.append(np.concatenate([np.outer(error, vector).reshape(-1), error if bias else []]))
    return np.stack(rows)
