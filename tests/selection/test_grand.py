"""GraNd against gradients by automatic differentiation, and against EL2N."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import check_orders, check_prefixes, generic, pool_of, small_pools

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.grand import grand
from dcpipe.selection.uncertainty import el2n


def lengths(candidates: Candidates, label: int, bias: bool) -> list[float]:
    """The length of each image's gradient w.r.t. a change of the last layer."""
    own, found = candidates.rows(label), []
    for vector, logits in zip(candidates.vectors[own], candidates.logits[own], strict=True):
        h, z = torch.tensor(np.float64(vector)), torch.tensor(np.float64(logits))
        weights = torch.zeros(len(z), len(h), dtype=torch.float64, requires_grad=True)
        shift = torch.zeros(len(z), dtype=torch.float64, requires_grad=True)
        loss = torch.nn.functional.cross_entropy((z + weights @ h + shift)[None], torch.tensor([label]))
        of_weights, of_bias = torch.autograd.grad(loss, (weights, shift))
        squared = (of_weights**2).sum() + ((of_bias**2).sum() if bias else 0)
        found.append(float(squared) ** 0.5)
    return found


@settings(max_examples=80)
@given(small_pools(), st.booleans(), st.sampled_from(["hard", "easy"]))
def test_each_class_is_ranked_by_the_length_of_the_gradient(
    case: tuple[Candidates, int], bias: bool, order: str
) -> None:
    candidates, ipc = case
    picks = grand(candidates, ipc, 0, Progress(), order=order, bias=bias)  # type: ignore[arg-type]
    for label, offset in enumerate(candidates.offsets[:-1]):
        expected = np.array(lengths(candidates, label, bias))
        rows = picks.rows.reshape(ipc, -1)[:, label] - offset
        np.testing.assert_allclose(picks.gains.reshape(ipc, -1)[:, label], expected[rows], rtol=0, atol=1e-12)
        best = np.sort(expected)[:: -1 if order == "hard" else 1][:ipc]
        np.testing.assert_allclose(expected[rows], best, rtol=0, atol=1e-12)
        assert len(set(rows.tolist())) == ipc


def test_with_features_of_one_length_it_ranks_as_el2n() -> None:
    candidates = generic([20, 20], 3, 2)
    ones = pool_of(np.tile([[0.6, 0.8, 0.0]], (40, 1)), candidates.logits, [20, 20])
    picks, expected = grand(ones, 8, 0, Progress()), el2n(ones, 8, 0, Progress())
    assert picks.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(picks.gains, np.sqrt(2) * expected.gains, rtol=1e-6)


def test_a_long_feature_vector_makes_an_image_hard() -> None:
    vectors = np.ones((8, 2))
    vectors[5] *= 10
    picks = grand(pool_of(vectors, np.tile([[1.0, 0.0]], (8, 1)), [4, 4]), 1, 0, Progress())
    assert picks.rows.tolist() == [0, 5]


@pytest.mark.parametrize("order", ["hard", "easy"])
def test_smaller_ipc_is_a_prefix_and_the_order_of_rows_does_not_matter(order: str) -> None:
    candidates = generic([9, 8, 10], 4, 5)
    check_prefixes(lambda *arguments: grand(*arguments, order=order), candidates)  # type: ignore[arg-type]
    for seed in range(5):
        check_orders(lambda *arguments: grand(*arguments, order=order), candidates, 6, seed)  # type: ignore[arg-type]


def test_golden_picks() -> None:
    picks = grand(generic([12, 12, 12], 6), 3, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains[:3], GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [0, 16, 25, 5, 19, 33, 2, 12, 26]
GOLDEN_GAINS = [2.7876626561, 3.4032765353, 2.6937059652]
