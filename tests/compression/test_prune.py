"""Label pruning: exactly which labels are kept, up to one unit of the budget; `test_pool.py` tests what epochs draw."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, kept_slowly, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression.prune import Prune
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(11, 9, 4)
ROWS = np.arange(11)
CODECS = [Prune("epoch", 4, 64, 0), Prune("batch", 7, 3, 0), Prune("batch", 9, 3, 2), Prune("batch", 1, 11, 1)]


@pytest.mark.parametrize("codec", CODECS)
def test_the_labels_of_the_method_are_kept_exactly(codec: Prune) -> None:
    logits = labels(SHAPE)
    arrays = encode(codec, logits, ROWS, SHAPE)
    rows, stored = held_pairs(codec, SHAPE)
    assert set(zip(rows.tolist(), stored.tolist(), strict=True)) == kept_slowly(codec, SHAPE)
    assert arrays["logits"].shape == codec.specs(SHAPE)["logits"][0] == (len(rows), SHAPE.classes)
    assert torch.equal(decode(codec, arrays, rows, stored, SHAPE), logits[rows, stored])


@settings(deadline=None, max_examples=60)
@given(
    st.builds(LabelShape, st.integers(1, 40), st.integers(1, 12), st.integers(1, 6)),
    st.data(),
)
def test_the_budget_is_used_up_to_one_unit(shape: LabelShape, data: st.DataObject) -> None:
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
        "codec 'prune': the label of view 4 of image 2 was dropped; request only pairs that `replay` or `holds` returns"
    )


def test_options_are_checked() -> None:
    with pytest.raises(DataError, match="codec 'prune': granularity is 'year': input should be 'epoch' or 'batch'"):
        Prune.plan(SHAPE, 1000, granularity="year")
    with pytest.raises(DataError, match=r"codec 'prune': batch_size is 64 for 11 images; give 1\.\.11"):
        Prune.plan(SHAPE, 1000, granularity="batch")
