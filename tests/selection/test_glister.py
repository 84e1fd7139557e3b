"""GLISTER against a last layer that takes its steps, with gradients by automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import check_orders, check_prefixes, generic, pool_of, small_pools, stable
from torch.nn.functional import cross_entropy

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.glister import glister
from dcpipe.types import DataError


class LastLayer:
    """A last layer (weights and bias) on the features of one class, with any loss of any weights.

    The teacher's weights are not known, so they are parameters that start at 0 and are added to its logits: gradients
    w.r.t. them are those w.r.t. the weights themselves.
    """

    def __init__(self, candidates: Candidates, label: int) -> None:
        own = candidates.rows(label)
        self.features = torch.tensor(np.float64(candidates.vectors[own]))
        self.logits = torch.tensor(np.float64(candidates.logits[own]))
        self.labels = torch.full((len(self.logits),), label)
        self.start = torch.zeros(self.logits.shape[1], self.features.shape[1] + 1, dtype=torch.float64)

    def loss(self, change: torch.Tensor, rows: list[int]) -> torch.Tensor:
        """The mean cross-entropy of some images."""
        logits = self.logits[rows] + self.features[rows] @ change[:, :-1].T + change[:, -1]
        return cross_entropy(logits, self.labels[rows])

    def gradient(self, change: torch.Tensor, rows: list[int]) -> torch.Tensor:
        at = change.clone().requires_grad_(True)
        return torch.autograd.grad(self.loss(at, rows), at)[0]


def reference(layer: LastLayer, ipc: int, eta: float) -> tuple[list[int], list[float]]:
    everything = list(range(len(layer.logits)))
    own = [layer.gradient(layer.start, [i]) for i in everything]
    rows: list[int] = []
    gains: list[float] = []
    for _ in range(ipc):
        stepped = layer.start - eta * sum((own[s] for s in rows), start=torch.zeros_like(layer.start))
        ahead = layer.gradient(stepped, everything)
        gain = {i: eta * float((own[i] * ahead).sum()) for i in everything if i not in rows}
        longest = max(float(g.norm()) for g in own) * float(ahead.norm())
        rows.append(next(i for i in gain if gain[i] >= max(gain.values()) - 1e-9 * eta * longest))
        gains.append(gain[rows[-1]])
    return rows, gains


@settings(max_examples=60)
@given(small_pools(), st.sampled_from([0.01, 0.1, 2.0]))
def test_picks_and_gains_are_those_of_the_steps_taken(case: tuple[Candidates, int], eta: float) -> None:
    candidates, ipc = case
    picks = glister(candidates, ipc, 0, Progress(), eta=eta)
    assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64
    for label, offset in enumerate(candidates.offsets[:-1]):
        rows, gains = reference(LastLayer(candidates, label), ipc, eta)
        assert (picks.rows.reshape(ipc, -1)[:, label] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains.reshape(ipc, -1)[:, label], gains, rtol=0, atol=1e-9)


def test_larger_classes_agree() -> None:
    candidates = generic([40, 33], 5, 7)
    picks = glister(candidates, 12, 4, Progress(), eta=0.3)
    for label, offset in enumerate((0, 40)):
        rows, gains = reference(LastLayer(candidates, label), 12, 0.3)
        assert (picks.rows[label::2] - offset).tolist() == rows
        np.testing.assert_allclose(picks.gains[label::2], gains, rtol=0, atol=1e-12)


def test_gains_are_what_the_loss_really_falls_by_for_small_steps() -> None:
    candidates = generic([25, 20], 4, 3)
    layer, eta = LastLayer(candidates, 0), 1e-5
    picks = glister(candidates, 6, 0, Progress(), eta=eta)
    everything = list(range(25))
    change = layer.start
    for row, gain in zip(picks.rows[::2].tolist(), picks.gains[::2].tolist(), strict=True):
        after = change - eta * layer.gradient(layer.start, [row])
        fall = float(layer.loss(change, everything) - layer.loss(after, everything))
        assert gain == pytest.approx(fall, rel=1e-3)
        change = after


def test_after_a_step_on_one_kind_of_image_another_kind_is_more_useful() -> None:
    """Two groups that nothing connects: with a long step the smaller one is picked too, with a short one it is not."""
    features = np.array([[4.0, 0.0]] * 12 + [[0.0, 4.0]] * 8) + 0.01 * stable(20, 2, 8)
    candidates = pool_of(np.vstack([features, features]), np.zeros((40, 2)), [20, 20])
    short, long = (glister(candidates, 2, 0, Progress(), eta=eta).rows[::2] for eta in (1e-4, 1.0))
    assert (short < 12).tolist() == [True, True] and (long < 12).tolist() == [True, False]


def test_smaller_ipc_is_a_prefix_and_the_order_of_rows_does_not_matter() -> None:
    candidates = generic([9, 8, 10], 4, 5)
    check_prefixes(glister, candidates)
    for seed in range(5):
        check_orders(glister, candidates, 8, seed)


def test_golden_picks() -> None:
    picks = glister(generic([12, 12, 12], 6), 3, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains[:3], GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [5, 19, 25, 2, 16, 33, 0, 23, 30]
GOLDEN_GAINS = [0.2336282318, 0.4062221237, 0.2559134135]


def test_a_step_of_no_size_is_refused() -> None:
    with pytest.raises(DataError) as error:
        glister(generic([3, 3], 2), 1, 0, Progress(), eta=0.0)
    assert str(error.value) == "selector 'glister': eta is 0.0: input should be greater than 0"
