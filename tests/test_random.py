"""Random numbers are a pure function of their name, equal to NumPy's Philox, and never change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.random import permutation, philox, uniform

GOLDEN = json.loads((Path(__file__).parent / "golden" / "views.json").read_text(encoding="utf-8"))
WORD = st.integers(0, 2**63 - 1)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**64 - 1), view=WORD, image=WORD, draw=st.integers(0, 12))
def test_words_are_numpys_philox(seed: int, view: int, image: int, draw: int) -> None:
    # NumPy adds one to its 256-bit counter before use: start one below (draw, 0, image, 0), with borrow.
    counter = (draw + (image << 128) - 1) % 2**256
    limbs = [(counter >> (64 * limb)) % 2**64 for limb in range(4)]
    reference = np.random.Philox(key=np.array([seed, view], np.uint64), counter=np.array(limbs, np.uint64))
    assert philox(seed, view, draw, image).tolist() == reference.random_raw(4).tolist()


def test_words_broadcast_over_views_and_images() -> None:
    table = philox(5, np.arange(3)[:, None], 2, np.arange(4))
    assert table.shape == (3, 4, 4)
    assert table[2, 1].tolist() == philox(5, 2, 2, 1).tolist()


def test_uniform_is_the_top_53_bits() -> None:
    words = np.array([0, 2**11 - 1, 2**11, 2**63, 2**64 - 1], dtype=np.uint64)
    assert uniform(words).tolist() == [0.0, 0.0, 2.0**-53, 0.5, 1 - 2.0**-53]


@settings(deadline=None, max_examples=40)
@given(seed=WORD, stream=WORD, n=st.integers(0, 300))
def test_permutation_is_a_bijection(seed: int, stream: int, n: int) -> None:
    order = permutation(seed, stream, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutations_differ_by_seed_and_stream() -> None:
    orders = [tuple(permutation(seed, stream, 20).tolist()) for seed in range(5) for stream in range(5)]
    assert len(set(orders)) == 25
    assert tuple(range(20)) not in orders


def test_golden_words_and_orders() -> None:
    words = philox(7, np.array(GOLDEN["views"]), 3, np.array(GOLDEN["ids"]))
    assert [[int(word) for word in row] for row in words] == GOLDEN["words"]
    for name, order in GOLDEN["permutation"].items():
        seed, stream = map(int, name.split())
        assert permutation(seed, stream, 12).tolist() == order
