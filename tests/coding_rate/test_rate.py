"""logdet(I + c G) and what one more vector adds, against determinants of the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import stable

from dcpipe.coding_rate import Rate
from dcpipe.coding_rate.rate import sample_form_is_cheaper
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
    for rate in (Rate.of_vectors(z, c), Rate.of_scatter(z.T @ z, c)):
        assert rate.value == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(rate.more(x).numpy(), more, rtol=0, atol=1e-8)
        assert rate.more(x.float()).dtype == torch.float32


def test_nothing_is_left_of_a_vector_already_there() -> None:
    z = torch.from_numpy(unit(stable(6, 20, 4)))
    more = Rate.of_vectors(z, 1e8).more(z.repeat(3, 1) * -1.0)
    assert bool((more >= 0).all())
    assert bool((more < np.log(1e8) / 2).all())  # a new direction would give log(1 + 1e8)


def test_sample_form_needs_no_more_than_d_vectors() -> None:
    for d in (1, 2, 7, 64, 512, 2048):
        for many in (1, 5, 100, 1300):
            assert not any(sample_form_is_cheaper(n, d, many) for n in range(int(0.62 * d) + 1, 2 * d + 2))
            assert sample_form_is_cheaper(0, d, many)
