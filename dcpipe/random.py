"""Random numbers as a pure function of their name: a seed, a stream, a draw and a row.

Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), with key (seed, stream) and
counter (draw, 0, row, 0). A 64-bit word w becomes a number in [0, 1) by (w >> 11) / 2**53. We map raw words ourselves
because NumPy's distributions may change between versions; the words may not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcpipe.types import FloatArray, IntArray

_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_PERMUTATION_DRAW = 12

Words = npt.NDArray[np.uint64]


def _multiply(a: np.uint64, b: Words) -> tuple[Words, Words]:
    """High and low 64 bits of the 128-bit product, by 32-bit halves."""
    a_low, a_high = a & _LOW, a >> _HALF
    b_low, b_high = b & _LOW, b >> _HALF
    low = a_low * b_low
    middle = a_high * b_low + (low >> _HALF)
    cross = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (cross >> _HALF), a * b


def philox(seed: int, view: npt.ArrayLike, draw: int, image: npt.ArrayLike) -> Words:
    """Four raw u64 words for each (view, image) pair: u64 [..., 4].

    Equals `np.random.Philox` with the same key and counter (which advances its counter once before use).
    """
    keys = np.asarray(view, dtype=np.int64).astype(np.uint64)
    images = np.asarray(image, dtype=np.int64).astype(np.uint64)
    keys, images = np.broadcast_arrays(keys, images)
    with np.errstate(over="ignore"):
        x0, x1 = np.full(keys.shape, draw, dtype=np.uint64), np.zeros(keys.shape, dtype=np.uint64)
        x2, x3 = images.copy(), np.zeros(keys.shape, dtype=np.uint64)
        k0 = np.full(keys.shape, seed % 2**64, dtype=np.uint64)
        k1 = keys.copy()
        for _ in range(10):
            high0, low0 = _multiply(_MULTIPLIERS[0], x0)
            high1, low1 = _multiply(_MULTIPLIERS[1], x2)
            x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack([x0, x1, x2, x3], axis=-1)


def uniform(words: Words) -> FloatArray:
    """Numbers in [0, 1) from raw words: the top 53 bits over 2**53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, stream: int, n: int) -> IntArray:
    """A permutation of range(n) from the same generator: the order of n random words."""
    words = philox(seed, stream, _PERMUTATION_DRAW, np.arange(n))[..., 0]
    return np.argsort(words, kind="stable").astype(np.int64)
