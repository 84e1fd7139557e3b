"""Cutting classes in two, and what every source must satisfy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import images
from dcpipe.images import base
from dcpipe.types import DataError

labels_of_any_set = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(lambda x: np.array(x, dtype=np.int64))


@settings(deadline=None, max_examples=60)
@given(labels=labels_of_any_set, share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_a_split_is_a_stratified_partition(labels, share, seed):
    train, minival = images.split_minival(labels, share, seed)
    assert train.dtype == minival.dtype == np.int64
    assert sorted([*train, *minival]) == list(range(len(labels)))
    for rows in (train, minival):
        assert (np.diff(rows) > 0).all()
    for label in np.unique(labels):
        count = int((labels == label).sum())
        taken = int((labels[minival] == label).sum())
        assert taken == min(int(share * count + 0.5), count - 1)
    again = images.split_minival(labels, share, seed)
    np.testing.assert_array_equal(again[1], minival)


def test_share_zero_is_empty_and_share_one_leaves_an_image_per_class():
    labels = np.repeat(np.arange(3), 5)
    train, minival = images.split_minival(labels, 0.0, 0)
    assert len(minival) == 0
    assert train.tolist() == list(range(15))
    train, minival = images.split_minival(labels, 1.0, 0)
    assert labels[train].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("count", "share", "taken"), [(5, 0.5, 3), (25, 0.1, 3), (3, 0.5, 2), (10, 0.25, 3), (4, 0.125, 1)]
)
def test_half_an_image_is_rounded_up(count, share, taken):
    """The nearest even number would be one less: 2.5 is 3 images, also where 2 is as near."""
    labels = np.repeat(np.arange(3), count)
    _, minival = images.split_minival(labels, share, 0)
    assert np.bincount(labels[minival]).tolist() == [taken] * 3


def test_seeds_differ_and_the_draw_is_fair():
    labels = np.zeros(200, dtype=np.int64)
    hits = np.zeros(200)
    for seed in range(400):
        hits[images.split_minival(labels, 0.5, seed)[1]] += 1
    assert abs(hits - 200).max() < 5 * 10  # five deviations of Binomial(400, 1/2)
    assert len(np.unique(hits)) > 10


def test_the_draw_never_changes():
    labels = np.arange(30, dtype=np.int64) % 3
    assert images.split_minival(labels, 0.2, 7)[1].tolist() == reference_cut(labels, 2, 7, 2**48)
    assert images.split_minival(labels, 0.2, 7)[1].tolist() == [11, 13, 19, 23, 24, 27]


def test_test_is_cut_by_other_draws_than_minival(make_source):
    source, _ = make_source(n=40)
    train, test = base.cut_test(source, 0.3, 7)
    assert test.rows.tolist() == reference_cut(source.labels, 3, 7, 2**48 + 1)
    assert sorted([*train.rows, *test.rows]) == list(range(40))
    assert test.rows.tolist() != images.split_minival(source.labels, 0.3, 7)[1].tolist()


def reference_cut(labels, taken, seed, stream):
    """The `taken` rows of each class with the smallest first word of NumPy's Philox, key (seed, stream)."""
    words = []
    for row in range(len(labels)):
        counter = np.array([11, 0, row, 0], dtype=np.uint64)  # NumPy adds one before use: draw 12
        bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=counter)
        words.append(bits.random_raw())
    chosen = []
    for label in set(labels.tolist()):
        rows = [row for row in range(len(labels)) if labels[row] == label]
        chosen += sorted(rows, key=words.__getitem__)[:taken]
    return sorted(chosen)


def test_wrong_share():
    with pytest.raises(DataError, match=r"^images: the share of a split must be in 0\.\.1, got 1\.5; correct it$"):
        images.split_minival(np.zeros(3, dtype=np.int64), 1.5, 0)


def test_what_two_splits_must_satisfy(make_source):
    good, _ = make_source(n=8)
    assert base.checked(good, good, "w") == {"train": good, "test": good}
    empty = replace(good, labels=np.zeros(0, dtype=np.int64))
    for train, test, sentence in (
        (empty, good, "^w: train holds no images; check the path and the split's name$"),
        (good, empty, "^w: test holds no images"),
        (replace(good, classes=("a", "a", "b", "c")), good, "^w train: class names repeat; make them distinct$"),
        (good, replace(good, classes=good.classes[::-1]), "^w: train and test: class 0 is 'class 0' on one side and"),
        (replace(good, classes=good.classes[:3]), good, r"^w train: labels span 0\.\.3 but there are 3 classes"),
        (
            replace(good, classes=(*good.classes, "ghost")),
            replace(good, classes=(*good.classes, "ghost")),
            "^w: class 'ghost' has no train images; add some or take it off the class list$",
        ),
    ):
        with pytest.raises(DataError, match=sentence):
            base.checked(train, test, "w")


def test_a_subset_reads_its_own_rows(make_source):
    source, _ = make_source(n=10)
    subset = base.Subset(source, np.array([2, 3, 7]))
    assert subset.labels.tolist() == [2, 3, 3]
    assert [name for _, name in subset.read(np.array([0, 2]))] == ["2.png", "7.png"]


def test_rows_must_ascend():
    base.check_ascending(np.array([0, 4]), 5, "x")
    for rows in ([1, 1], [2, 1], [-1, 0], [4, 5]):
        with pytest.raises(
            DataError, match=r"^x: rows must ascend strictly within 0\.\.4; sort them and remove repetitions$"
        ):
            base.check_ascending(np.array(rows), 5, "x")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (
            [str(i) for i in range(12)],
            "numerical order (0, 1, 2, 3, 4, ...); if a teacher was trained in the order of text",
        ),
        (
            sorted(str(i) for i in range(12)),
            "the order of text (0, 1, 10, 11, 2, ...); if a teacher was trained in num",
        ),
        (["0", "1", "2"], ""),
        (["2", "1"], ""),
        (["a", "10", "2"], ""),
        (["cat", "dog"], ""),
        (["9" * 5000, "1"], ""),
    ],
)
def test_the_order_of_integers_is_mentioned(classes: list[str], said: str) -> None:
    note = images.order_note(classes)
    assert note.startswith(f"classes are named by integers in {said}" if said else "") and bool(note) == bool(said)


def test_names_are_sorted_as_numbers_where_all_are() -> None:
    assert base.in_order(map(str, range(11))) == tuple(map(str, range(11)))
    assert base.in_order(["10", "9", "01", "1"]) == ("01", "1", "9", "10")
    assert base.in_order(["10", "9", "ten"]) == ("10", "9", "ten")
    assert base.in_order(["10", "9", "-1"]) == ("-1", "10", "9")
    assert base.in_order(["10", "9", "²"]) == ("10", "9", "²")
