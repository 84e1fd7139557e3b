"""The two coefficients of the coding rate: with fixed counts it is the function of the paper's proof, else not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import log_det, made, pool_of_vectors, stable, unit

from dcpipe.coding_rate.rate import Rate, squared
from dcpipe.selection import Candidates, Progress
from dcpipe.selection.score import score
from dcpipe.types import FloatArray


def chen(candidates: Candidates, ipc: int, alpha: float, beta: float, eps2: float) -> list[int]:
    """Fast greedy MAP inference for a fixed kernel (Chen, Zhang, Zhou, NeurIPS 2018), one Cholesky row a pick: the
    kernel K + I / c for R_I, and each class's own for R_D."""
    z = unit(np.asarray(candidates.vectors))
    n, d = z.shape
    n_classes = candidates.n_classes
    c_all, c_own = d / (ipc * n_classes * eps2), d / (ipc * eps2)
    label = np.repeat(np.arange(n_classes), np.diff(candidates.offsets))
    same = label[:, None] == label[None, :]
    kernels = [z @ z.T + np.eye(n) / c_all, (z @ z.T) * same + np.eye(n) / c_own]
    left = [kernel.diagonal().copy() for kernel in kernels]
    factors = [np.zeros((n, 0)), np.zeros((n, 0))]
    rows: list[int] = []
    for step in range(ipc * n_classes):
        gain = np.log(c_all * left[0]) / 2 - alpha / (2 * n_classes) * np.log(c_own * left[1])
        gain -= beta * candidates.label_rate
        gain[label != step % n_classes] = -np.inf
        gain[rows] = -np.inf
        j = int(gain.argmax())
        rows.append(j)
        for which, kernel in enumerate(kernels):
            column = (kernel[j] - factors[which] @ factors[which][j]) / np.sqrt(left[which][j])
            left[which] = left[which] - column**2
            factors[which] = np.column_stack([factors[which], column])
            left[which][rows] = 1.0  # nothing is left of a pick; round-off must not reach the logarithm
    return rows


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_final_coefficient_equals_incremental_cholesky(alpha: float) -> None:
    candidates = made([40, 37, 45], 8, seed=3)
    picks = score(candidates, 7, 0, Progress(), alpha=alpha, beta=0.5, coefficient="final")
    assert picks.rows.tolist() == chen(candidates, 7, alpha, 0.5, 0.5)


def rate_growing(z: FloatArray, eps2: float = 0.5) -> float:
    return log_det(z.shape[1] / (len(z) * eps2), z) / 2 if len(z) else 0.0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4), st.floats(0.01, 100))
def test_fixed_coefficient_is_monotone_and_submodular(seed: int, d: int, n: int, extra: int, c: float) -> None:
    rows = unit(stable(n + extra + 1, d, seed))
    small, large, x = rows[:n], rows[: n + extra], rows[-1:]
    gain_small = log_det(c, np.vstack([small, x])) - log_det(c, small)
    gain_large = log_det(c, np.vstack([large, x])) - log_det(c, large)
    assert gain_large >= -1e-10
    assert gain_small >= gain_large - 1e-10
    # and the code's own gains are these
    z, candidate = torch.from_numpy(small), torch.from_numpy(x)
    more = Rate.of_vectors(z, c).more(squared(candidate), candidate @ z.T)
    assert float(more[0]) == pytest.approx(gain_small, abs=1e-9)


def test_growing_coefficient_is_neither_monotone_nor_submodular() -> None:
    e1, e2 = np.eye(2)
    small, large = np.stack([e1, e2]), np.stack([e1, e2, e2])
    gain_small = rate_growing(np.vstack([small, e1])) - rate_growing(small)
    gain_large = rate_growing(np.vstack([large, e1])) - rate_growing(large)
    assert gain_small < 0
    assert gain_large > gain_small
    # The selector reports these very numbers: class 0 holds e1, e2 and e1 again.
    picks = score(pool_of_vectors(np.stack([e1, e2, e1]), [3]), 3, 0, Progress(), alpha=0.0, beta=0.0)
    assert picks.gains[2] == pytest.approx(gain_small, abs=1e-12)
