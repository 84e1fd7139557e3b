"""One mean label per image: the average over views in fp16, for every view."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels, make, plan_file

from dcpipe.compression import CODECS, payload
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(7, 12, 9)
ROWS = np.arange(SHAPE.images)


def test_every_view_gets_the_mean_over_views() -> None:
    codec, logits = make("mean_label", SHAPE), labels(SHAPE)
    arrays = encode(codec, logits, ROWS, SHAPE)
    expected = np.stack([sum(image[view] for view in range(12)) / 12 for image in logits.double().numpy()])
    np.testing.assert_allclose(arrays["logits"].astype(np.float64), expected, rtol=2**-11, atol=1e-7)
    decoded = decode(codec, arrays, *held_pairs(codec, SHAPE), SHAPE).reshape(logits.shape)
    assert torch.equal(decoded, torch.from_numpy(arrays["logits"]).float()[:, None].expand(-1, 12, -1))
    # Views beyond K have the same label.
    assert torch.equal(decode(codec, arrays, ROWS, ROWS + 50, SHAPE), decoded[:, 0])


def test_bytes_do_not_depend_on_the_number_of_views() -> None:
    for views in (3, 30, 300):
        shape = LabelShape(7, views, 9)
        assert payload(CODECS["mean_label"].plan(shape, shape.reference_bytes).specs(shape)) == 2 * 7 * 9


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(DataError) as error:
        CODECS["mean_label"].plan(SHAPE, 125)
    assert str(error.value) == (
        "codec 'mean_label': its arrays take at least 126 bytes (12.00x below fp16) but the budget leaves 125 after "
        "the header; choose a smaller ratio or codec 'field'"
    )
    with pytest.raises(DataError, match=r"the budget leaves -?\d+ after the header"):
        plan_file("mean_label", LabelShape(1, 1, 9), 18)
