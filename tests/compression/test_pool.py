"""The pool of kept labels: its contents, and that epochs draw only from it, uniformly and reproducibly."""

import numpy as np
import pytest
from codec_cases import kept_slowly

from dcpipe.compression.pool import Granularity, Pool, units
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(11, 9, 4)
GOLDEN = {0: [38, 38, 11, 37, 43, 45, 40, 33], 1: [4, 32, 45, 15, 5, 48, 24, 35]}
GOLDEN_BATCHES = ([2, 4, 3, 9, 7, 5, 9, 7, 5, 0, 9], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0])


POOLS = [Pool("epoch", 4, 64, 0), Pool("batch", 7, 3, 0), Pool("batch", 9, 3, 2), Pool("batch", 1, 11, 1)]


@pytest.mark.parametrize("pool", POOLS)
def test_epochs_are_as_long_as_the_set_and_draw_only_kept_labels(pool: Pool) -> None:
    for epoch in range(30):
        rows, stored = pool.replay(epoch, SHAPE)
        assert rows.shape == stored.shape == (SHAPE.images,) and rows.dtype == stored.dtype == np.int64
        assert pool.holds(rows, stored, SHAPE).all()
        again = pool.replay(epoch, SHAPE)
        assert rows.tolist() == again[0].tolist() and stored.tolist() == again[1].tolist()


def test_an_epoch_of_views_shows_every_image_once() -> None:
    rows, stored = POOLS[0].replay(3, SHAPE)
    assert rows.tolist() == list(range(11)) and len(set(stored.tolist())) == 1


def test_kept_views_are_drawn_equally_often() -> None:
    epochs = 2000
    counts = np.bincount([POOLS[0].replay(epoch, SHAPE)[1][0] for epoch in range(epochs)], minlength=4)
    assert len(counts) == 4 and np.abs(counts - epochs / 4).max() < 5 * np.sqrt(epochs * 0.25 * 0.75)


def test_kept_batches_are_drawn_equally_often() -> None:
    pool, shape, epochs = Pool("batch", 10, 3, 0), LabelShape(12, 9, 4), 600
    counts: dict[tuple[int, int], int] = {}
    for epoch in range(epochs):
        for pair in zip(*(part.tolist() for part in pool.replay(epoch, shape)), strict=True):
            counts[pair] = counts.get(pair, 0) + 1
    assert set(counts) == kept_slowly(pool, shape)
    drawn = 4 * epochs  # four batches an epoch, each of ten equally likely
    assert np.abs(np.array(list(counts.values())) - drawn / 10).max() < 5 * np.sqrt(drawn * 0.1 * 0.9)


def test_seeds_and_epochs_differ_and_the_draws_are_pinned() -> None:
    for seed, expected in GOLDEN.items():
        pool = Pool("epoch", 50, 64, seed)
        assert [int(pool.replay(epoch, SHAPE)[1][0]) for epoch in range(8)] == expected
    rows, stored = Pool("batch", 7, 3, 0).replay(0, SHAPE)
    assert (rows.tolist(), stored.tolist()) == GOLDEN_BATCHES


@pytest.mark.parametrize("pool", POOLS)
def test_entries_number_the_kept_labels_by_image_and_view(pool: Pool) -> None:
    kept = sorted(kept_slowly(pool, SHAPE))
    assert pool.labels(SHAPE) == len(kept)
    rows, stored = np.divmod(np.arange(SHAPE.images * SHAPE.views), SHAPE.views)
    held = pool.holds(rows, stored, SHAPE)
    assert list(zip(rows[held].tolist(), stored[held].tolist(), strict=True)) == kept
    assert pool.find("x", rows[held], stored[held], SHAPE).tolist() == list(range(len(kept)))
    assert (pool.entries(SHAPE) >= 0).sum() == len(kept)


def test_a_label_that_was_dropped_is_named() -> None:
    with pytest.raises(DataError) as caught:
        POOLS[0].find("x", np.array([1, 2, 3]), np.array([3, 4, 5]), SHAPE)
    assert str(caught.value) == (
        "codec 'x': the label of view 4 of image 2 was dropped; request only pairs that `replay` or `holds` returns"
    )


@pytest.mark.parametrize(
    ("granularity", "batch_size", "found"), [("epoch", 64, (11, 9)), ("batch", 3, (3, 27)), ("batch", 11, (11, 9))]
)
def test_units_are_views_or_whole_batches(granularity: Granularity, batch_size: int, found: tuple[int, int]) -> None:
    """Of 11 images, three batches of 3; the last, short one is dropped."""
    assert units("x", granularity, batch_size, SHAPE) == found


def test_batches_larger_than_the_set_are_refused() -> None:
    for batch_size in (0, 12):
        with pytest.raises(DataError) as caught:
            units("x", "batch", batch_size, SHAPE)
        assert str(caught.value) == f"codec 'x': batch_size is {batch_size} for 11 images; give 1..11"
