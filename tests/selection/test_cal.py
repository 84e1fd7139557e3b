"""CAL against its definition, image by image, with neighbours by scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import check_orders, check_prefixes, generic, pool_of, small_pools, stable
from scipy.special import rel_entr
from sklearn.neighbors import NearestNeighbors

from dcpipe.selection import Candidates, Progress
from dcpipe.selection.cal import cal
from dcpipe.types import DataError, FloatArray


def probabilities(logits: FloatArray) -> list[float]:
    powers = [math.exp(float(z) - float(max(logits))) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def defined(candidates: Candidates, label: int, neighbours: int, normalise: bool) -> list[float]:
    """The score of each image of a class, one neighbour at a time; of equally near ones, the lower row."""
    own = candidates.rows(label)
    vectors = [np.float64(x) for x in candidates.vectors[own]]
    if normalise:
        vectors = [x / np.sqrt(x @ x) if x @ x > 0 else x for x in vectors]
    p = [probabilities(z) for z in candidates.logits[own]]
    scores = []
    for i, x in enumerate(vectors):
        others = [j for j in range(len(vectors)) if j != i]
        nearest = sorted(others, key=lambda j: (round(float(((x - vectors[j]) ** 2).sum()), 10), j))[:neighbours]
        divergences = [math.fsum(a * math.log(a / b) for a, b in zip(p[j], p[i], strict=True)) for j in nearest]
        scores.append(math.fsum(divergences) / max(1, len(nearest)))
    return scores


@settings(max_examples=100)
@given(small_pools(), st.integers(1, 8), st.booleans(), st.sampled_from(["hard", "easy"]), st.sampled_from([1, 2**22]))
def test_each_class_is_ranked_by_the_definition(
    case: tuple[Candidates, int], neighbours: int, normalise: bool, order: str, block: int
) -> None:
    candidates, ipc = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpipe.selection.cal._BLOCK", block)
        picks = cal(candidates, ipc, 0, Progress(), neighbours=neighbours, normalise=normalise, order=order)
    assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64
    for label, offset in enumerate(candidates.offsets[:-1]):
        expected = np.array(defined(candidates, label, neighbours, normalise))
        rows = picks.rows.reshape(ipc, -1)[:, label] - offset
        assert len(set(rows.tolist())) == ipc
        np.testing.assert_allclose(picks.gains.reshape(ipc, -1)[:, label], expected[rows], rtol=0, atol=1e-12)
        best = np.sort(expected)[:: -1 if order == "hard" else 1][:ipc]
        np.testing.assert_allclose(expected[rows], best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalise", [True, False])
def test_larger_classes_agree_with_scikit_learn_and_scipy(normalise: bool) -> None:
    candidates = generic([60, 50], 5, 3)
    picks = cal(candidates, 50, 0, Progress(), neighbours=7, normalise=normalise)
    for label, offset in enumerate((0, 60)):
        x = candidates.class_units(label) if normalise else candidates.class_vectors(label)
        search = NearestNeighbors(n_neighbors=7).fit(x)
        nearest = search.kneighbors(return_distance=False)
        p = candidates.class_probabilities(label)
        scores = rel_entr(p[nearest], p[:, None]).sum(axis=2).mean(axis=1)
        rows = picks.rows[label::2] - offset
        assert rows.tolist() == np.argsort(-scores)[:50].tolist()
        np.testing.assert_allclose(picks.gains[label::2], scores[rows], rtol=1e-9)


def test_the_exception_among_similar_images_is_first_and_the_uncertain_group_is_not() -> None:
    """Ten sure images with one that the teacher takes for another class, and ten that are all torn."""
    vectors = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10) + 0.01 * stable(20, 2, 1)
    logits = np.array([[5.0, 0.0]] * 10 + [[0.0, 0.0]] * 10)
    logits[4] = [0.0, 5.0]
    candidates = pool_of(np.vstack([vectors, vectors]), np.vstack([logits, logits]), [20, 20])
    picks = cal(candidates, 20, 0, Progress(), neighbours=5)
    assert picks.rows[0] == 4 and picks.gains[0] > 4
    assert all(gain < 1e-9 for row, gain in zip(picks.rows[::2], picks.gains[::2], strict=True) if row >= 10)


def test_a_sure_teacher_has_scores_that_are_small_and_precise() -> None:
    """Probabilities of 1e-13, of which 1 - p keeps three digits: the divergence is that of the rare classes."""
    rare = np.array([1e-13, 3e-13])
    logits = np.array([[0.0, math.log(rare[0])], [0.0, math.log(rare[1])], [0.0, 0.0], [0.0, 0.0]])
    candidates = Candidates(np.ones((4, 1), np.float32), logits, np.zeros(4), np.array([0, 2, 4]))
    picks = cal(candidates, 2, 0, Progress())
    gains = dict(zip(picks.rows[::2].tolist(), picks.gains[::2].tolist(), strict=True))
    a, b = rare
    assert gains[0] == pytest.approx(b * math.log(b / a) - b + a, rel=1e-3)  # up to terms of 1e-26
    assert gains[1] == pytest.approx(a * math.log(a / b) - a + b, rel=1e-3)


def test_an_image_that_is_alone_has_the_score_zero() -> None:
    picks = cal(generic([1, 3], 2), 1, 0, Progress())
    assert picks.rows[0] == 0 and picks.gains[0] == 0


def test_smaller_ipc_is_a_prefix_and_the_order_of_rows_does_not_matter() -> None:
    candidates = generic([9, 8, 10], 4, 5)

    def select(*arguments: object) -> object:
        return cal(*arguments, neighbours=3)  # type: ignore[arg-type]

    check_prefixes(select, candidates)  # type: ignore[arg-type]
    for seed in range(5):
        check_orders(select, candidates, 8, seed)  # type: ignore[arg-type]


def test_no_neighbours_are_refused() -> None:
    with pytest.raises(DataError) as error:
        cal(generic([3, 3], 2), 1, 0, Progress(), neighbours=0)
    assert str(error.value) == "selector 'cal': neighbours is 0: input should be greater than or equal to 1"


def test_golden_picks() -> None:
    picks = cal(generic([12, 12, 12], 6), 3, 0, Progress())
    assert picks.rows.tolist() == GOLDEN_ROWS
    np.testing.assert_allclose(picks.gains[:3], GOLDEN_GAINS, rtol=0, atol=1e-8)


GOLDEN_ROWS = [8, 12, 25, 0, 16, 26, 2, 23, 34]
GOLDEN_GAINS = [2.3285090413, 2.5564622246, 2.4435660405]
