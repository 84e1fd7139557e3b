"""Labels and views as dense arrays: any slice of any rows, and views that a box and a flip cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import releases
from releases import logits_of

from dcpipe import views
from dcpipe.compression import CODECS
from dcpipe.dataset.decoded import Decoded, holds_all, parameters
from dcpipe.types import DataError, LabelPack, ViewPolicy


def pack_of(codec: str, **options: object) -> LabelPack:
    """The labels of the release of these tests, packed by another codec."""
    pack = releases.parts().pack
    assert pack is not None
    shape, rows = pack.shape, np.arange(pack.shape.images)
    made = CODECS[codec].plan(shape, shape.reference_bytes * 3 // 4, **options)
    drawn = views.draw(
        releases.POLICY, np.repeat(pack.ids, shape.views), np.tile(np.arange(shape.views), len(rows)), 12
    )
    arrays = made.encode(logits_of(pack).float(), rows, shape, drawn)
    return replace(pack, codec=codec, settings=made.settings, arrays=dict(arrays))


def test_a_slice_is_decoded_when_it_is_asked_for() -> None:
    pack = pack_of("topk")
    rows = np.array([4, 0, 11, 7])
    decoded, expected = Decoded(pack, rows), logits_of(pack)[rows].numpy().astype(np.float16)
    assert (decoded.shape, decoded.dtype) == ((4, 5, 3), np.float16)
    for index in (slice(None), slice(1, 3), slice(3, None)):
        np.testing.assert_array_equal(decoded[index], expected[index])
        assert decoded[index].dtype == np.float16


def test_packs_that_dropped_labels_do_not_hold_all() -> None:
    assert holds_all(pack_of("topk")) and not holds_all(pack_of("prune"))
    assert not holds_all(pack_of("prune", granularity="batch", batch_size=4))


def test_boxes_and_flips_are_those_of_the_views() -> None:
    pack = pack_of("topk")
    rows = np.array([4, 0, 11])
    box, flip = parameters(pack, rows)
    assert (box.shape, box.dtype, flip.shape, flip.dtype) == ((3, 5, 4), np.float32, (3, 5), np.uint8)
    for (place, row), view in ((pair, view) for pair in enumerate(rows) for view in range(5)):
        drawn = views.draw(releases.POLICY, pack.ids[[row]], np.array([view]), 12)
        np.testing.assert_allclose(box[place, view], drawn.box[0], rtol=1e-6)
        assert flip[place, view] == drawn.flip[0]


@pytest.mark.parametrize("change", [{"randaugment": 2}, {"shuffle": 2}, {"siamese": "color"}])
def test_views_that_are_more_than_a_box_and_a_flip_are_refused(change: dict[str, object]) -> None:
    pack = replace(pack_of("topk"), policy=ViewPolicy(**change))  # type: ignore[arg-type]  # one of three fields
    with pytest.raises(DataError, match=r"^this release's labels are of views with RandAugment, .* \(--images-only\)"):
        parameters(pack, np.array([0]))
