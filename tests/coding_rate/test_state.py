"""The matrices of the picks so far are those of the definition, at any number of picks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pools import stable

from dcpipe.coding_rate.pool import Pool
from dcpipe.coding_rate.state import Objective, State


@pytest.mark.parametrize("final", [None, 13])
def test_rates_are_those_of_the_definition_whenever_a_basis_is_made(final: int | None) -> None:
    d, vectors = 20, stable(26, 20)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    objective, cost = Objective(2.0, 1.0, 0.5, final=final), stable(26, 1, 3)[:, 0]
    pool = Pool(vectors.astype(np.float32), np.array([0, 13, 26]), torch.device("cpu"))
    state, value = State(26, pool, cost, objective), 0.0
    for n in range(26):
        c = d / ((n + 1) * 0.5)
        if n >= state.turn and n % state.period == 0:
            state.rebase()
        rate = state.all(c)
        assert rate.value == pytest.approx(np.linalg.slogdet(np.eye(d) + c * vectors[:n].T @ vectors[:n])[1], abs=1e-10)
        label, z = n % 2, torch.from_numpy(vectors[n])
        state.add(n // 2 + 13 * label, label, 0.5, z, objective)
        value += 0.5 + cost[n // 2 + 13 * label]
        own = vectors[label : n + 1 : 2]
        c_own = d / ((final or len(own)) * 0.5)
        expected = np.linalg.slogdet(np.eye(d) + c_own * own.T @ own)[1]
        assert state.class_rate[label] == pytest.approx(expected, abs=1e-10)
        assert state.value == pytest.approx(value) and np.isinf(state.cost[n // 2 + 13 * label])
    assert (state.turn, state.period, state.based) == (16, 8, 24)
