"""The candidates at unit length, one class at a time, and products that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pools import stable

from dcpipe.coding_rate.pool import Pool, Products
from dcpipe.types import FloatArray

CPU = torch.device("cpu")


def units(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


@pytest.mark.parametrize("length", [1e-30, 1.0, 1e30])
def test_vectors_have_unit_length_whatever_their_own(length: float) -> None:
    vectors = (stable(9, 5) * length).astype(np.float32)
    vectors[7] = 0
    pool = Pool(vectors, np.array([0, 4, 9]), CPU)
    picks = torch.from_numpy(units(stable(3, 5, 1)))
    expected = units(vectors)
    for label, rows in ((0, slice(0, 4)), (1, slice(4, 9)), (0, slice(0, 4))):
        np.testing.assert_allclose(pool.products(label, picks), expected[rows] @ picks.numpy().T, atol=1e-6)
        np.testing.assert_allclose(pool.some(label, None), expected[rows], atol=1e-6)
        np.testing.assert_allclose(pool.some(label, np.array([1, 3])), expected[rows][[1, 3]], atol=1e-6)
        np.testing.assert_allclose(pool.exact(np.arange(9)[rows]), expected[rows], rtol=1e-14)
        assert pool.lengths(label).tolist() == [float(row.any()) for row in vectors[rows]]


class Counting(Pool):
    """Counts the products that are computed."""

    computed = 0

    def products(self, label: int, picks: torch.Tensor) -> torch.Tensor:
        self.computed += len(picks)
        return super().products(label, picks)


@pytest.mark.parametrize(("budget", "computed"), [(0, 20), (4 * 4 * 4, 14), (2 * 4 * 4 * 4, 8)])
def test_each_product_is_computed_once_within_the_budget(budget: int, computed: int) -> None:
    """Two classes of four with four picks: as many are kept as fit."""
    vectors = stable(8, 5).astype(np.float32)
    pool = Counting(vectors, np.array([0, 4, 8]), CPU)
    products, picks = Products(pool, budget), torch.from_numpy(units(stable(6, 5, 1)))
    for n in (1, 2, 3, 4):
        for label, places in ((0, [0, 2, 3, 5][:n]), (1, [1, 2, 4, 5][:n])):
            found = products.of(label, picks, places, n, 4)
            expected = units(vectors)[4 * label : 4 * label + 4] @ picks[places].numpy().T
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert pool.computed == computed


def test_products_that_are_forgotten_are_computed_again() -> None:
    pool = Counting(stable(4, 5).astype(np.float32), np.array([0, 4]), CPU)
    products, picks = Products(pool, 10**6), torch.from_numpy(units(stable(6, 5, 1)))
    before = products.of(0, picks, slice(0, 3), 3, 6).clone()
    products.clear()
    np.testing.assert_allclose(products.of(0, picks, slice(0, 3), 3, 6), before)
    assert pool.computed == 6
