"""Last-layer gradients by their inner products, against gradients written out in full."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import softmax, stable, written_out

from dcpipe.selection.last_layer import Gradients, errors_of


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_inner_products_are_those_of_gradients_written_out(n: int, d: int, c: int, bias: bool, seed: int) -> None:
    p, h = softmax(4 * stable(n, c, seed)), stable(n, d, seed + 1)
    targets = (np.arange(n) + seed) % c
    g = written_out(p, h, targets.tolist(), bias)
    gradients = Gradients(errors_of(p, targets), h, bias)
    for row in range(n):
        np.testing.assert_allclose(gradients.inner(row), g @ g[row], rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradients.squared_norms(), (g**2).sum(axis=1), rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradients.inner_with_mean(), g @ g.mean(axis=0), rtol=0, atol=1e-13)


def test_a_sure_teacher_leaves_a_gradient_with_a_direction() -> None:
    p = np.array([[1.0, 1e-20, 3e-20]])
    assert p[0, 0] - 1 == 0
    np.testing.assert_allclose(errors_of(p, np.array([0])), [[-4e-20, 1e-20, 3e-20]], rtol=1e-15)
