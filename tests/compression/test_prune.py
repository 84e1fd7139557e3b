"""Label pruning: what is kept, that epochs draw only that, uniformly and for ever the same."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression.prune import Prune
from dcpipe.random import permutation
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(11, 9, 4)
ROWS = np.arange(11)


def kept_slowly(codec: Prune, shape: LabelShape) -> set[tuple[int, int]]:
    """Walk through the list of batches, view after view, as the method is told."""
    if codec.granularity == "epoch":
        return {(row, view) for row in range(shape.images) for view in range(codec.kept)}
    kept, left = set(), codec.kept
    for view in range(shape.views):
        order = permutation(codec.seed, view, shape.images).tolist()
        for start in range(0, shape.images - codec.batch_size + 1, codec.batch_size):
            if left > 0:
                kept |= {(row, view) for row in order[start : start + codec.batch_size]}
                left -= 1
    return kept


CODECS = [Prune("epoch", 4, 64, 0), Prune("batch", 7, 3, 0), Prune("batch", 9, 3, 2), Prune("batch", 1, 11, 1)]


@pytest.mark.parametrize("codec", CODECS)
def test_keeps_what_the_method_says_and_exactly(codec: Prune) -> None:
    logits = labels(SHAPE)
    arrays = encode(codec, logits, ROWS, SHAPE)
    rows, stored = held_pairs(codec, SHAPE)
    assert set(zip(rows.tolist(), stored.tolist(), strict=True)) == kept_slowly(codec, SHAPE)
    assert arrays["logits"].shape == codec.specs(SHAPE)["logits"][0] == (len(rows), SHAPE.classes)
    assert torch.equal(decode(codec, arrays, rows, stored, SHAPE), logits[rows, stored])


@pytest.mark.parametrize("codec", CODECS)
def test_epochs_are_as_long_as_the_set_and_draw_only_kept_labels(codec: Prune) -> None:
    for epoch in range(30):
        rows, stored = codec.replay(epoch, SHAPE)
        assert rows.shape == stored.shape == (SHAPE.images,) and rows.dtype == stored.dtype == np.int64
        assert codec.holds(rows, stored, SHAPE).all()
        again = codec.replay(epoch, SHAPE)
        assert rows.tolist() == again[0].tolist() and stored.tolist() == again[1].tolist()


def test_an_epoch_of_views_shows_every_image_once() -> None:
    rows, stored = CODECS[0].replay(3, SHAPE)
    assert rows.tolist() == list(range(11)) and len(set(stored.tolist())) == 1


def test_kept_views_are_drawn_equally_often() -> None:
    epochs = 2000
    counts = np.bincount([CODECS[0].replay(epoch, SHAPE)[1][0] for epoch in range(epochs)], minlength=4)
    assert len(counts) == 4 and np.abs(counts - epochs / 4).max() < 5 * np.sqrt(epochs * 0.25 * 0.75)


def test_kept_batches_are_drawn_equally_often() -> None:
    codec, shape, epochs = Prune("batch", 10, 3, 0), LabelShape(12, 9, 4), 600
    counts: dict[tuple[int, int], int] = {}
    for epoch in range(epochs):
        for pair in zip(*(part.tolist() for part in codec.replay(epoch, shape)), strict=True):
            counts[pair] = counts.get(pair, 0) + 1
    assert set(counts) == kept_slowly(codec, shape)
    drawn = 4 * epochs  # four batches an epoch, each of ten equally likely
    assert np.abs(np.array(list(counts.values())) - drawn / 10).max() < 5 * np.sqrt(drawn * 0.1 * 0.9)


def test_seeds_and_epochs_differ_and_the_draws_are_pinned() -> None:
    for seed, expected in GOLDEN.items():
        codec = Prune("epoch", 50, 64, seed)
        assert [int(codec.replay(epoch, SHAPE)[1][0]) for epoch in range(8)] == expected
    rows, stored = Prune("batch", 7, 3, 0).replay(0, SHAPE)
    assert (rows.tolist(), stored.tolist()) == GOLDEN_BATCHES


@settings(deadline=None, max_examples=60)
@given(
    st.builds(LabelShape, st.integers(1, 40), st.integers(1, 12), st.integers(1, 6)),
    st.data(),
)
def test_the_budget_is_met_to_a_unit(shape: LabelShape, data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, shape.images))
    granularity = data.draw(st.sampled_from(["epoch", "batch"]))
    unit = 2 * shape.classes * (shape.images if granularity == "epoch" else batch_size)
    budget = data.draw(st.integers(unit, 2 * shape.reference_bytes))
    codec = Prune.plan(shape, budget, granularity=granularity, batch_size=batch_size, seed=3)
    most = shape.views * (1 if granularity == "epoch" else shape.images // batch_size)
    assert codec.kept == min(budget // unit, most)
    rows, stored = held_pairs(codec, shape)
    assert set(zip(rows.tolist(), stored.tolist(), strict=True)) == kept_slowly(codec, shape)


def test_dropped_labels_are_refused() -> None:
    codec = CODECS[0]
    arrays = encode(codec, labels(SHAPE), ROWS, SHAPE)
    assert codec.holds(np.array([1, 2]), np.array([3, 4]), SHAPE).tolist() == [True, False]
    with pytest.raises(DataError) as caught:
        decode(codec, arrays, np.array([1, 2]), np.array([3, 4]), SHAPE)
    assert str(caught.value) == (
        "codec 'prune': the label of view 4 of image 2 was dropped; ask for pairs that `replay` or `holds` names"
    )


def test_options_are_checked() -> None:
    with pytest.raises(DataError, match="codec 'prune': granularity is 'year'; choose one of epoch, batch"):
        Prune.plan(SHAPE, 1000, granularity="year")
    with pytest.raises(DataError, match=r"codec 'prune': batch_size is 64 for 11 images; give one in 1\.\.11"):
        Prune.plan(SHAPE, 1000, granularity="batch")


GOLDEN = {0: [38, 38, 11, 37, 43, 45, 40, 33], 1: [4, 32, 45, 15, 5, 48, 24, 35]}
GOLDEN_BATCHES = ([2, 4, 3, 9, 7, 5, 9, 7, 5, 0, 9], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0])
