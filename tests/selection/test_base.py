"""Candidates that no selector could use raise an error before any work, which names the class and the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pools import pool_of_vectors
from scipy.special import log_softmax

from dcpipe.selection import (
    JOINT,
    SELECTORS,
    Candidates,
    Picks,
    Progress,
    allows_small_classes,
    candidates_of,
    candidates_without_features,
    class_by_class,
    unit,
)
from dcpipe.types import DataError, Features, ImageTable

GOOD = Candidates(
    np.arange(1, 11, dtype=np.float32).reshape(5, 2),
    np.zeros((5, 2), dtype=np.float32),
    np.zeros(5),
    np.array([0, 3, 5]),
    ("cat", "dog"),
)


def refused(candidates: Candidates, ipc: int = 2) -> str:
    with pytest.raises(DataError) as error:
        candidates.check(ipc)
    return str(error.value)


def broken(name: str, row: int, value: float) -> Candidates:
    array = np.asarray(getattr(GOOD, name)).copy()
    array[row] = value
    return replace(GOOD, **{name: array})


def test_sound_candidates_pass() -> None:
    GOOD.check(2)
    GOOD.check(1)


def test_a_class_that_is_too_small_is_named() -> None:
    assert refused(GOOD, 3) == "selection.ipc is 3 but class 'dog' has 2 images; use ipc <= 2"
    assert refused(replace(GOOD, classes=()), 3) == "selection.ipc is 3 but class '1' has 2 images; use ipc <= 2"


def test_arrays_of_different_length_are_refused() -> None:
    assert refused(replace(GOOD, logits=np.zeros((4, 2)))) == (
        "candidates: logits has 4 rows, labels have 5; extract the features again"
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "vectors",
            np.nan,
            "candidates: the vector contains NaN or infinity in 1 of 2 images of class 'dog', first in image 1; "
            "check the teacher",
        ),
        (
            "logits",
            np.inf,
            "candidates: the logits contain NaN or infinity in 1 of 2 images of class 'dog', first in image 1; "
            "check the teacher",
        ),
        (
            "vectors",
            0.0,
            "candidates: the vector is zero in 1 of 2 images of class 'dog', first in image 1; "
            "train the teacher longer, or another one",
        ),
    ],
)
def test_broken_features_are_refused(name: str, value: float, sentence: str) -> None:
    assert refused(broken(name, 4, value)) == sentence


def test_zeros_in_logits_are_fine() -> None:
    broken("logits", 4, 0.0).check(2)


def test_class_views() -> None:
    assert GOOD.class_vectors(1).tolist() == [[7, 8], [9, 10]] and GOOD.class_vectors(1).dtype == np.float64
    np.testing.assert_allclose((GOOD.class_units(0) ** 2).sum(axis=1), 1)
    assert unit(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 0], [0.6, 0.8]]
    high = replace(GOOD, logits=np.array([[1000.0, 1000.0]] * 5, dtype=np.float32))
    assert high.class_probabilities(0).tolist() == [[0.5, 0.5]] * 3
    assert high.class_logits(0).tolist() == [[1000, 1000]] * 3 and high.class_logits(0).dtype == np.float64
    np.testing.assert_allclose(high.class_log_probabilities(0), np.log(0.5), rtol=1e-15)


def test_log_probabilities_are_finite_and_precise() -> None:
    """A probability that underflows has a logarithm, and so has what is missing from one that rounds to 1."""
    logits = np.array([[0.0, -2000.0], [-40.0, 0.0], [1.0, 2.0], [3.0, 3.0], [0.0, 0.5]])
    found = replace(GOOD, logits=logits)
    logs = np.vstack([found.class_log_probabilities(label) for label in (0, 1)])
    np.testing.assert_allclose(logs[0], [0.0, -2000.0])
    np.testing.assert_allclose(logs[1], [-40.0 - np.exp(-40.0), -np.exp(-40.0)], rtol=1e-14)
    np.testing.assert_allclose(logs[2:], log_softmax(logits[2:], axis=1), rtol=1e-14)


def test_class_by_class_picks_in_rounds_and_reports_progress() -> None:
    told: list[tuple[int, int]] = []
    picks = class_by_class(
        GOOD,
        2,
        Progress(progress=lambda done, total: told.append((done, total))),
        lambda label, n: (np.array([1, 0]), np.array([label + 0.5, label])),
    )
    assert isinstance(picks, Picks)
    assert picks.rows.tolist() == [1, 4, 0, 3] and picks.gains.tolist() == [0.5, 1.5, 0.0, 1.0]
    assert told == [(2, 4), (4, 4)]


def test_small_classes_give_all_that_they_have_if_they_may() -> None:
    pool = replace(pool_of_vectors(np.ones((8, 2)), [4, 1, 3]), take_all=True)
    pool.check(3)
    assert pool.wanted(3).tolist() == [3, 1, 3] and pool.wanted(1).tolist() == [1, 1, 1]
    asked: list[tuple[int, int]] = []

    def pick(label: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append((label, n))
        return np.arange(n)[::-1], np.full(n, float(label))

    picks = class_by_class(pool, 3, Progress(), pick)
    assert asked == [(0, 3), (1, 1), (2, 3)]
    assert picks.rows.tolist() == [2, 4, 7, 1, 6, 0, 5] and picks.gains.tolist() == [0, 1, 2, 0, 2, 0, 2]
    with pytest.raises(DataError, match=r"^selection\.ipc is 3 but class '1' has 1 images; use ipc <= 1$"):
        replace(pool, take_all=False).wanted(3)


@pytest.mark.parametrize("method", [name for name in SELECTORS.builtin if name not in JOINT])
def test_selectors_that_choose_in_each_class_alone_take_all_of_small_ones(method: str) -> None:
    """What they pick of the other classes is as if no class were small, and the first rounds are those of a smaller
    set."""
    draw = np.random.default_rng(3)
    sizes, n = [6, 2, 5], 13
    whole = replace(pool_of_vectors(draw.normal(size=(n, 4)), sizes), logits=draw.normal(size=(n, 3)), take_all=True)
    picks = SELECTORS[method](whole, 4, 0, Progress())
    labels = np.repeat([0, 1, 2], sizes)[picks.rows]
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 0, 2] and len(set(picks.rows.tolist())) == 10
    assert SELECTORS[method](whole, 2, 0, Progress()).rows.tolist() == picks.rows[:6].tolist()


@pytest.mark.parametrize("method", sorted(JOINT))
def test_selectors_that_choose_in_all_classes_together_refuse_small_ones(method: str) -> None:
    draw = np.random.default_rng(3)
    whole = replace(pool_of_vectors(draw.normal(size=(5, 4)), [4, 1]), logits=draw.normal(size=(5, 2)), take_all=True)
    with pytest.raises(DataError, match=r"^selection\.ipc is 2 but class '1' has 1 images; use ipc <= 1$"):
        SELECTORS[method](whole, 2, 0, Progress())
    assert not allows_small_classes(method) and allows_small_classes("herding")


# --- from features, and back to images ---


def features_of(n: int) -> Features:
    """Of n images in no order; the last of five classes has none."""
    source = np.random.default_rng(n)
    return Features(
        source.normal(size=(n, 3)).astype(np.float32),
        source.normal(size=(n, 5)).astype(np.float32),
        source.random(n),
        source.permutation(n) + 7,
        source.integers(0, 4, n),
    )


@pytest.mark.parametrize("n", [1, 30, 8192 + 500])  # the last takes two blocks
def test_candidates_are_the_features_sorted_by_class(n: int, tmp_path: Path) -> None:
    features = features_of(n)
    found = candidates_of(features, tuple("abcde"), tmp_path)
    assert found.n_classes == 5 and found.offsets.dtype == np.int64 and found.offsets[-1] == found.offsets[-2] == n
    for label in range(5):
        rows = [row for row in range(n) if features.labels[row] == label]  # within a class, the table's order
        span = found.rows(label)
        for name in ("vectors", "logits", "label_rate", "ids"):
            assert np.array_equal(getattr(found, name)[span], getattr(features, name)[rows])
    assert isinstance(found.vectors, np.memmap) and found.vectors.dtype == np.float32
    assert found.class_name(4) == "'e'"


def test_picks_name_the_images_and_their_classes(tmp_path: Path) -> None:
    features = features_of(30)
    found = candidates_of(features, tuple("abcde"), tmp_path)
    rows = np.random.default_rng(1).permutation(30)[:12]
    chosen = found.selection(Picks(rows, np.arange(12.0)), "mine")
    label_of = dict(zip(features.ids.tolist(), features.labels.tolist(), strict=True))
    assert chosen.labels.tolist() == [label_of[number] for number in chosen.ids.tolist()]
    assert np.array_equal(features.vectors[features.rows_of(chosen.ids)], found.vectors[rows])
    assert (chosen.method, chosen.gains.tolist()) == ("mine", list(range(12)))
    assert chosen.ids.dtype == chosen.labels.dtype == np.int64


def test_candidates_without_ids_use_their_rows() -> None:
    chosen = GOOD.selection(Picks(np.array([4, 0]), np.zeros(2)), "mine")
    assert (chosen.ids.tolist(), chosen.labels.tolist()) == ([4, 0], [1, 0])


def test_a_table_is_enough_for_a_selector_without_features() -> None:
    ids, labels = np.array([9, 3, 5, 1]), np.array([1, 0, 1, 0])
    table = ImageTable((Path("one"),), 4, ids, labels, ("ant", "bee"), 8, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    found = candidates_without_features(table)
    assert found.ids is not None
    assert (found.ids.tolist(), found.offsets.tolist(), found.classes) == ([3, 1, 9, 5], [0, 2, 4], ("ant", "bee"))
