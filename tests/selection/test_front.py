"""Selecting from arrays gives the picks of the pipeline's selector, as rows of the caller's arrays."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

import dcpipe
from dcpipe.selection import SELECTORS, Candidates, Progress, front
from dcpipe.types import DataError

SIZES = (9, 7, 8)


def arrays(order: str = "mixed") -> dict[str, Any]:
    """Vectors, labels, logits and label rates of three classes, mixed or class by class."""
    draw = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), SIZES)
    labels = draw.permutation(labels) if order == "mixed" else labels
    n = len(labels)
    return {
        "vectors": draw.normal(size=(n, 5)).astype(np.float32),
        "labels": labels,
        "logits": draw.normal(size=(n, 3)).astype(np.float32),
        "label_rate": draw.random(n),
    }


def slowly(given: dict[str, Any], method: str, ipc: int, seed: int, **options: Any) -> list[int]:
    """The selector by hand, on lists sorted class by class."""
    rows = [row for label in range(3) for row in range(len(given["labels"])) if given["labels"][row] == label]
    counts = [sum(label == y for y in given["labels"]) for label in range(3)]
    offsets = np.array([sum(counts[:label]) for label in range(4)])
    candidates = Candidates(given["vectors"][rows], given["logits"][rows], given["label_rate"][rows], offsets)
    picks = SELECTORS[method](candidates, ipc, seed, Progress(), **options)
    return [rows[row] for row in picks.rows]


@pytest.mark.parametrize("method", list(SELECTORS))
def test_rows_are_those_of_the_selector_in_the_callers_order(method: str) -> None:
    given = arrays()
    found = front.select(**given, method=method, ipc=4, seed=5)
    assert found.tolist() == slowly(given, method, 4, 5) and found.dtype == np.int64
    assert given["labels"][found].tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize("names", [["c", "a", "b"], [7, -2, 30], ["x", "y", "z"]])
def test_labels_may_be_any_names(names: list[Any]) -> None:
    given = arrays()
    named = given | {"labels": np.array([names[label] for label in given["labels"]])}
    found = front.select(**named, method="margin", ipc=3, classes=names)
    assert found.tolist() == front.select(**given, method="margin", ipc=3).tolist()
    # Without logits no order of columns is needed.
    bare = {"vectors": given["vectors"], "labels": named["labels"]}
    rows = front.select(**bare, method="herding", ipc=3)
    assert sorted(rows) == sorted(front.select(given["vectors"], given["labels"], "herding", 3))
    assert named["labels"][rows].tolist() == sorted(names) * 3


def test_options_and_lists_are_passed_on() -> None:
    given = arrays()
    options = {"alpha": 0.1, "beta": 2.0}
    found = front.select(**given, method="score", ipc=4, **options)
    assert found.tolist() == slowly(given, "score", 4, 0, **options) != front.select(**given, ipc=4).tolist()
    lists = {key: array.tolist() for key, array in given.items()}
    assert front.select(**lists, method="score", ipc=4, **options).tolist() == found.tolist()
    assert dcpipe.select is front.select


def test_score_without_label_rates_omits_them() -> None:
    given = arrays()
    found = front.select(given["vectors"], given["labels"], ipc=4)
    assert found.tolist() == slowly(given, "score", 4, 0, beta=0.0)


def test_progress_is_reported() -> None:
    told: list[tuple[int, int]] = []
    given = arrays()
    front.select(
        given["vectors"], given["labels"], "herding", 2, progress=lambda made, total: told.append((made, total))
    )
    assert told == [(2, 6), (4, 6), (6, 6)]


NEED_LOGITS = (
    *("craig", "gradmatch", "glister", "badge", "bait", "contextual_diversity", "cal"),
    *("least_confidence", "margin", "entropy", "el2n", "grand"),
)


@pytest.mark.parametrize("method", list(SELECTORS))
def test_an_array_that_is_needed_and_not_given_is_named(method: str) -> None:
    given = arrays()
    if method not in NEED_LOGITS:
        assert len(front.select(given["vectors"], given["labels"], method, 2)) == 6
        return
    with pytest.raises(DataError) as error:
        front.select(given["vectors"], given["labels"], method, 2)
    assert str(error.value) == f"selector {method!r} needs logits; give logits= to select"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "scoer"}, f"unknown selector 'scoer'; choose one of {', '.join(SELECTORS)}; did you mean 'score'?"),
    ({"method": "herding", "normalize": True}, "selector 'herding' has no option 'normalize'; its options are "),
    ({"ipc": 0}, "ipc is 0; give 1 or more"),
    ({"ipc": 1.5}, "ipc is 1.5; give a whole number"),
    ({"seed": 1.5}, "seed is 1.5; give a whole number"),  # it would be seed 1
    ({"method": None}, "selector is None; choose one of random, score, "),
    ({"labels": np.full(24, np.nan)}, "labels have no value at 0; give each image a class"),
    ({"labels": [0] * 23 + [None]}, "labels have no value at 23; give each image a class"),
    ({"labels": np.array([0, "a"] * 12, object)}, "labels and classes must be numbers or texts, all of one kind ("),
    ({"classes": [[0], [1]]}, "labels and classes must be numbers or texts, all of one kind ("),
    ({"vectors": np.ones((24, 5)) * 1j}, "vectors must be real numbers, but are complex128; convert them"),
    ({"ipc": 8}, "selection.ipc is 8 but class '1' has 7 images; use ipc <= 7"),
    (
        {"vectors": np.zeros((24, 5))},
        "candidates: the vector is zero in 9 of 9 images of class '0', first in image 0",
    ),
    (
        {"vectors": np.ones((23, 5))},
        "vectors must be [n, d] for the n = 24 labels, but are [23, 5]; give a row for each",
    ),
    ({"vectors": np.ones(24)}, "vectors must be [n, d] for the n = 24 labels, but are [24]; give a row for each label"),
    ({"labels": np.zeros((24, 1))}, "labels must be [n], one for each image, but are [24, 1]"),
    (
        {"logits": np.ones((24, 4))},
        "logits must be [n, c] = [24, 3], but are [24, 4]; give classes= in the order of the columns",
    ),
    ({"logits": np.full((24, 3), np.nan)}, "logits must not contain NaN; check the network that computed them"),
    ({"label_rate": np.ones(3)}, "label_rate must be [n] = [24], but are [3]; give one for each label"),
    ({"classes": [0, 1]}, "labels contain 2, which is not in classes; add it"),
    ({"classes": [0, 1, 1, 2]}, "classes repeat a name; list each once"),
    (
        {"label_rate": None, "beta": 0.5},
        "selector 'score' weights label_rate by beta; give label_rate, or leave beta out",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        front.select(**{**arrays(), "ipc": 2, **change})
    assert str(error.value).startswith(sentence)


def test_the_example_runs() -> None:
    results = doctest.testmod(front)
    assert results.attempted >= 5 and results.failed == 0


def test_numbers_of_numpy_are_numbers() -> None:
    given = arrays()
    picked = front.select(given["vectors"], given["labels"], "random", np.int64(2), np.int64(3))
    assert picked.tolist() == front.select(given["vectors"], given["labels"], "random", 2, 3).tolist()
