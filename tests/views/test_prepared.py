"""Prepared views: slices of them are the views of these items, and their values are those of the parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from view_cases import column, random_images

from dcpipe import views
from dcpipe.types import ViewPolicy
from dcpipe.views.crop import crop_prepared
from dcpipe.views.prepared import prepare

CPU = torch.device("cpu")
POLICIES = {
    "crops": ViewPolicy(seed=1),
    "mixed": ViewPolicy(mix="cutmix_labels", seed=2, mix_share=0.5),
    "before": ViewPolicy(randaugment=2, shuffle=2, seed=3),
    "after": ViewPolicy(siamese="color_crop_cutout_flip_scale_rotate", seed=4),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_a_slice_of_prepared_views_is_the_prepared_slice(name: str, inside: bool) -> None:
    policy, n = POLICIES[name], 9
    images, drawn = random_images(n, 8, 6), replace(views.draw(policy, np.arange(n), column(n, 5), n), inside=inside)
    whole = prepare(drawn, 8, 8, 6, CPU, mixed=policy.mix != "none")
    assert len(whole) == n
    for span in (slice(0, 4), slice(4, 9), slice(None)):
        part, alone = whole[span], views.crop(images[span], drawn[span], 8)
        assert torch.equal(crop_prepared(images[span], part), alone)
        if policy.mix != "none":
            assert part.pasted is not None and part.pasted.tolist() == drawn[span].pixels(8).tolist()
            assert part.unmixed_share is not None
            np.testing.assert_array_equal(part.unmixed_share[:, 0], drawn[span].unmixed_share(8).astype(np.float32))
    assert whole[:4].maps.data_ptr() == whole.maps.data_ptr()  # no copy


def test_maps_take_the_ends_of_a_view_to_the_ends_of_its_crop() -> None:
    drawn = views.Views(
        np.array([[0.25, 0.5, 0.5, 0.25], [0.0, 0.0, 1.0, 1.0]]),
        np.array([False, True]),
        np.zeros(2, dtype=np.int64),
        np.zeros((2, 4)),
    )
    maps = prepare(drawn, 4, 4, 4, CPU, mixed=False).maps
    ends = maps[:, 1] + maps[:, 0], maps[:, 1] - maps[:, 0]  # of [-1, 1]: at 1, and at -1
    assert ends[1].tolist() == [[-0.5, 0.0], [1.0, -1.0]] and ends[0].tolist() == [[0.5, 0.5], [-1.0, 1.0]]
