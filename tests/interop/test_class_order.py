"""The order of classes: a shuffled one is found, noise proves nothing, and a right one is confirmed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.interop.class_order import find_order, ranks


def predictions_of(labels: np.ndarray, order: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    """Of a teacher that is right with some probability, and guesses otherwise."""
    source = np.random.default_rng(seed)
    guesses = source.integers(0, len(order), len(labels))
    return np.where(source.random(len(labels)) < accuracy, order[labels], guesses)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(6, 40), ipc=st.integers(10, 20), accuracy=st.floats(0.8, 1))
def test_a_shuffled_order_is_found(seed: int, classes: int, ipc: int, accuracy: float) -> None:
    order = np.random.default_rng(seed).permutation(classes)
    labels = np.repeat(np.arange(classes), ipc)
    found = find_order(labels, predictions_of(labels, order, accuracy, seed), classes)
    stated = np.arange(classes)
    if (order != stated).mean() > 0.5:
        assert found.order is not None and found.order.tolist() == order.tolist() and not found.confirmed
        assert found.agreed > found.stated
    elif (order == stated).all():
        assert found.confirmed


@pytest.mark.parametrize("ipc", [1, 2, 10])
@pytest.mark.parametrize("classes", [10, 100])
def test_noise_proves_no_order(ipc: int, classes: int) -> None:
    """Assignments fit noise: on all images some order agrees with several times as many as chance."""
    labels = np.repeat(np.arange(classes), ipc)
    proven, best = 0, 0.0
    for seed in range(60):
        found = find_order(labels, np.random.default_rng(seed).integers(0, classes, len(labels)), classes)
        proven += found.order is not None
        best = max(best, found.agreed)
    assert proven == 0 and best > 2 / classes


def test_a_teacher_that_sees_one_class_everywhere_proves_nothing() -> None:
    labels = np.repeat(np.arange(10), 10)
    assert find_order(labels, np.full(100, 3), 10).order is None


def test_one_image_per_class_confirms_the_stated_order_but_finds_no_other() -> None:
    """Any distinct predictions are a permutation then."""
    labels, other = np.arange(10), np.roll(np.arange(10), 1)
    assert find_order(labels, labels, 10).confirmed
    found = find_order(labels, other, 10)
    assert found.order is None and found.agreed == 1.0


def test_two_classes_that_a_teacher_confuses_do_not_change_the_order() -> None:
    """Two of twenty classes are a tenth of the images, which is no clear margin."""
    labels = np.repeat(np.arange(20), 10)
    seen = labels.copy()
    seen[:10], seen[10:20] = 1, 0
    found = find_order(labels, seen, 20)
    assert found.confirmed and found.agreed == 1.0 and found.stated == 0.9


def test_what_is_said() -> None:
    labels = np.repeat(np.arange(3), 8)
    order = np.array([1, 2, 0])
    found = find_order(labels, order[labels], 3)
    assert found.line(("ant", "bee", "cow")) == (
        "the teacher agrees with 0.0 % of labels, but with 100.0 % in another order: label 0 (ant) is bee; 1 (bee) is "
        "cow; 2 (cow) is ant"
    )
    assert find_order(labels, labels, 3).line("abc") == "the teacher agrees with 100.0 % of labels (chance is 33.3 %)"
    none = find_order(labels, np.zeros_like(labels), 3).line("abc")
    assert none.endswith("and chance is 33.3 %: it cannot tell the order of the classes")
    many = np.repeat(np.arange(30), 4)
    line = find_order(many, np.roll(np.arange(30), 1)[many], 30).line([f"c{k}" for k in range(30)])
    assert line.endswith("19 (c19) is c18, and 10 more")


def test_ranks_count_within_a_class() -> None:
    labels = np.array([2, 0, 2, 1, 0, 2])
    assert ranks(labels).tolist() == [0, 0, 1, 0, 1, 2]
