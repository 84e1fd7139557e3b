"""MR-k on a pool of kept labels: the pool is `prune`'s, the labels are their k largest logits."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, payload
from dcpipe.compression.prune import Prune
from dcpipe.compression.prune_topk import PruneTopk
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(11, 30, 12)
OPTIONS = [{"prune": 6}, {"prune": 9.9, "granularity": "batch", "batch_size": 3, "seed": 2}]


@pytest.mark.parametrize("options", OPTIONS)
def test_keeps_the_largest_logits_of_the_labels_that_prune_keeps(options: dict) -> None:
    logits = labels(SHAPE)
    codec = PruneTopk.plan(SHAPE, 600, **options)
    beside = Prune(codec.granularity, codec.kept, codec.batch_size, codec.seed)
    assert codec.kept == (5 if codec.granularity == "epoch" else 9)  # 30 / 6 views; 30 * 3 / 9.9 batches
    arrays = encode(codec, logits, np.arange(11), SHAPE)
    rows, stored = held_pairs(codec, SHAPE)
    assert np.array_equal(np.stack(held_pairs(beside, SHAPE)), np.stack([rows, stored]))
    for epoch in range(5):
        assert np.array_equal(np.stack(codec.replay(epoch, SHAPE)), np.stack(beside.replay(epoch, SHAPE)))
        assert codec.holds(*codec.replay(epoch, SHAPE), SHAPE).all()
    decoded = decode(codec, arrays, rows, stored, SHAPE)
    for entry, (row, view) in enumerate(zip(rows, stored, strict=True)):
        label = logits[row, view].numpy()
        kept = np.argsort(-label, kind="stable")[: codec.per_label + (entry < codec.extra)]
        expected = np.full(SHAPE.classes, -np.inf)
        expected[kept] = label[kept]
        np.testing.assert_array_equal(decoded[entry], expected)
    whole = join([encode(codec, logits[part], part, SHAPE) for part in np.split(np.arange(11), [1, 5])])
    assert all(np.array_equal(whole[name], arrays[name]) for name in arrays)


@settings(deadline=None, max_examples=150)
@given(
    st.builds(LabelShape, st.integers(1, 12), st.integers(1, 300), st.integers(2, 1000)),
    st.floats(1, 40),
    st.floats(1, 400),
    st.sampled_from([16, 8]),
    st.data(),
)
def test_the_budget_is_used_up_to_one_entry(
    shape: LabelShape, prune: float, ratio: float, bits: int, data: st.DataObject
) -> None:
    granularity = data.draw(st.sampled_from(["epoch", "batch"]))
    batch_size = data.draw(st.integers(1, shape.images))
    unit = shape.images if granularity == "epoch" else batch_size
    count = unit * max(1, int(shape.views * (shape.images // unit) / prune))
    entry, steps = bits // 8 + (1 if shape.classes <= 256 else 2), 2 * count if bits == 8 else 0
    budget = max(int(shape.reference_bytes / ratio), count * entry + steps)
    codec = PruneTopk.plan(shape, budget, prune=prune, granularity=granularity, batch_size=batch_size, bits=bits)
    size = payload(codec.specs(shape))
    assert codec.pool.labels(shape) == count
    assert size <= budget and 1 <= codec.per_label <= shape.classes and 0 <= codec.extra < count
    assert budget - size < entry or (codec.per_label, codec.extra) == (shape.classes, 0)


def test_lpqlds_sizes() -> None:
    """MR-k on a tenth of 300 views: 4 k bytes a kept label, at k = 100, 50 and 10."""
    shape = LabelShape(10, 300, 1000)
    for k in (100, 50, 10):
        codec = PruneTopk.plan(shape, 10 * 30 * 4 * k)
        assert (codec.kept, codec.per_label, codec.extra) == (30, k, 0)
        assert payload(codec.specs(shape)) == 10 * 30 * 4 * k


def test_more_budget_is_never_worse() -> None:
    logits, kept = labels(SHAPE), []
    for budget in range(99, 1200, 100):
        codec = PruneTopk.plan(SHAPE, budget)
        decoded = decode(codec, encode(codec, logits, np.arange(11), SHAPE), *held_pairs(codec, SHAPE), SHAPE)
        p = torch.softmax(logits[:, : codec.kept].flatten(0, 1), dim=1)
        kept.append((p * torch.isfinite(decoded)).sum(dim=1))
    assert all((less <= more).all() for less, more in pairwise(kept))


def test_dropped_labels_are_refused() -> None:
    codec = PruneTopk.plan(SHAPE, 600)
    arrays = encode(codec, labels(SHAPE), np.arange(11), SHAPE)
    assert codec.holds(np.array([1, 2]), np.array([2, 3]), SHAPE).tolist() == [True, False]
    with pytest.raises(DataError) as caught:
        decode(codec, arrays, np.array([1, 2]), np.array([2, 3]), SHAPE)
    assert str(caught.value) == (
        "codec 'prune_topk': the label of view 3 of image 2 was dropped; request only pairs that `replay` or `holds` "
        "returns"
    )


REFUSALS = [
    ({"prune": 0.5}, "codec 'prune_topk': prune is 0.5: input should be greater than or equal to 1"),
    ({"granularity": "year"}, "codec 'prune_topk': granularity is 'year': input should be 'epoch' or 'batch'"),
    ({"granularity": "batch"}, "codec 'prune_topk': batch_size is 64 for 11 images; give 1..11"),
    ({"bits": 1}, "codec 'prune_topk': bits is 1: input should be 16 or 8"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSALS)
def test_options_are_checked(options: dict, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        PruneTopk.plan(SHAPE, 10**6, **options)
    assert str(caught.value) == sentence


def test_the_smallest_size_is_named() -> None:
    with pytest.raises(DataError) as caught:
        PruneTopk.plan(SHAPE, 98)
    assert str(caught.value) == (
        "codec 'prune_topk': its arrays take at least 99 bytes (80.00x below fp16) but the budget leaves 98 after the "
        "header; choose a smaller ratio or a larger prune"
    )
    with pytest.raises(
        DataError, match=r"^codec 'prune_topk' supports up to 65536 classes, but there are 65537; choose codec 'svd'$"
    ):
        PruneTopk.plan(LabelShape(1, 20, 65537), 10**9)
