"""logdet(I + c G) and what one more vector adds, against determinants of the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import stable

from dcpipe.coding_rate.rate import Basis, LaterRate, Rate, squared
from dcpipe.types import FloatArray


def unit(vectors: FloatArray) -> FloatArray:
    norm = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return vectors / np.where(norm > 0, norm, 1.0)


def log_det(a: float, z: FloatArray) -> float:
    """logdet(I + a Z^T Z) for rows Z."""
    return float(np.linalg.slogdet(np.eye(z.shape[1]) + a * z.T @ z)[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9), st.integers(1, 6), st.integers(1, 5), st.floats(0.01, 1000), st.integers(0, 99))
def test_the_two_forms_are_one_number(n: int, d: int, many: int, c: float, seed: int) -> None:
    z, x = torch.from_numpy(unit(stable(n, d, seed))), torch.from_numpy(unit(stable(many, d, seed + 1)))
    if n:
        x[0] = z[0]
    expected = log_det(c, z.numpy())
    more = [log_det(c, np.vstack([z.numpy(), row[None]])) - expected for row in x.numpy()]
    direct = Rate.of_vectors(z, c)
    assert direct.value == pytest.approx(expected, abs=1e-8)
    np.testing.assert_allclose(direct.more(squared(x), x @ z.T).numpy(), more, rtol=0, atol=1e-8)
    assert direct.more(squared(x.float()), (x @ z.T).float()).dtype == torch.float32
    for summed in range(n + 1):  # any number of vectors may be summed up in the basis
        basis = Basis.of_scatter(z[:summed].T @ z[:summed])
        rate = LaterRate.of(basis, basis.rotate(z[summed:]), c)
        assert rate.value == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(rate.more(basis.rotate(x)).numpy(), more, rtol=0, atol=1e-8)
        assert rate.more(basis.rotate(x.float())).dtype == torch.float32


def test_nothing_is_left_of_a_vector_already_there() -> None:
    z = torch.from_numpy(unit(stable(6, 20, 4)))
    x = z.repeat(3, 1) * -1.0
    more = Rate.of_vectors(z, 1e8).more(squared(x), x @ z.T)
    assert bool((more >= 0).all())
    assert bool((more < np.log(1e8) / 2).all())  # a new direction would give log(1 + 1e8)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 9), st.integers(0, 5), st.integers(1, 6), st.floats(0.01, 1000), st.floats(1, 50), st.integers(0, 99)
)
def test_what_a_candidate_adds_only_falls(n: int, later: int, d: int, c: float, fall: float, seed: int) -> None:
    """Whatever is picked in between and however far the coefficient falls: an old term is an upper bound."""
    z, x = unit(stable(n + later, d, seed)), unit(stable(3, d, seed + 1))
    for row in x:
        before = log_det(c, np.vstack([z[:n], row[None]])) - log_det(c, z[:n])
        after = log_det(c / fall, np.vstack([z, row[None]])) - log_det(c / fall, z)
        assert after <= before + 1e-9
