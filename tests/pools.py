"""Candidates for the tests of selection, numbers that never change, gradients written out, and what every selector that
works class by class without random numbers must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from dcpipe.random import philox, uniform
from dcpipe.selection import Candidates, Picks, Progress
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


def generic(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    """Vectors and logits without ties."""
    n = sum(sizes)
    return pool_of(stable(n, d, seed) + 0.5, 3 * stable(n, len(sizes), seed + 100), sizes)


@st.composite
def small_pools(
    draw: Callable[..., object], largest: int = 7, least_logit: int = -3, most_logit: int = 3
) -> tuple[Candidates, int]:
    """Integer vectors and logits, so that copies, zero vectors, zero gradients (one class) and exact ties are common;
    classes of up to `largest` images, ipc up to the smallest class."""
    sizes = draw(st.lists(st.integers(1, largest), min_size=1, max_size=3))
    d, n, c = draw(st.integers(1, 4)), sum(sizes), len(sizes)
    vectors = draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    logits = draw(st.lists(st.integers(least_logit, most_logit), min_size=n * c, max_size=n * c))
    ipc = draw(st.integers(1, min(sizes)))
    return pool_of(np.array(vectors).reshape(n, d), np.array(logits).reshape(n, c), sizes), ipc


def check_prefixes(select: Callable[..., Picks], candidates: Candidates) -> None:
    """A smaller ipc gives the first picks of a larger one, and nothing is picked twice."""
    c = candidates.n_classes
    largest = int(np.diff(candidates.offsets).min())
    whole = select(candidates, largest, 0, Progress())
    assert len(set(whole.rows.tolist())) == largest * c
    for ipc in range(1, largest):
        part = select(candidates, ipc, 0, Progress())
        assert part.rows.tolist() == whole.rows[: c * ipc].tolist()
        assert part.gains.tolist() == whole.gains[: c * ipc].tolist()


def check_orders(select: Callable[..., Picks], candidates: Candidates, ipc: int, seed: int) -> None:
    """In another order of the rows of each class, the same images are picked, where nothing ties."""
    order = np.concatenate(
        [
            candidates.offsets[y] + np.random.default_rng([seed, y]).permutation(size)
            for y, size in enumerate(np.diff(candidates.offsets))
        ]
    )
    moved = replace(candidates, vectors=candidates.vectors[order], logits=candidates.logits[order])
    picks, again = select(candidates, ipc, 0, Progress()), select(moved, ipc, 0, Progress())
    assert picks.rows.tolist() == order[again.rows].tolist()
    np.testing.assert_allclose(picks.gains, again.gains, rtol=1e-9, atol=1e-12)


def unit(vectors: FloatArray) -> FloatArray:
    norm = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return vectors / np.where(norm > 0, norm, 1.0)


def log_det(a: float, z: FloatArray) -> float:
    """logdet(I + a Z^T Z) for rows Z."""
    return float(np.linalg.slogdet(np.eye(z.shape[1]) + a * z.T @ z)[1])


def made(sizes: list[int], d: int, seed: int = 0) -> Candidates:
    n = sum(sizes)
    return pool_of_vectors(stable(n, d, seed), sizes, stable(n, 1, seed + 100)[:, 0] + 1)
