"""Features of views against their definition, one view at a time."""

import numpy as np
import pytest
from codec_cases import features_slowly

from dcpipe import views
from dcpipe.compression.view_features import features, most_features, pasted
from dcpipe.types import Mix, ViewPolicy

N = 15


def drawn(mix: Mix) -> views.Views:
    return views.draw(ViewPolicy(scale_min=0.3, mix=mix), np.arange(N), np.arange(N) % 5, N)


@pytest.mark.parametrize("mix", ["none", "cutmix_images"])
def test_features_are_what_they_mean(mix: Mix) -> None:
    mixed = mix == "cutmix_images"
    some = drawn(mix)
    assert some.flip.any() and not some.flip.all()
    found = features(some, most_features(mixed), mixed)
    assert found.shape == (N, 22 if mixed else 20) and found.dtype == np.float64
    expected = np.stack([features_slowly(some[j : j + 1], mixed) for j in range(N)])
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("mixed", [False, True])
def test_fewer_features_are_the_first_ones(mixed: bool) -> None:
    """In the order in which greedy selection picked them: fewer features are a prefix, not a new choice."""
    some = drawn("cutmix_images")
    everything = features(some, most_features(mixed), mixed)
    for count in (1, 3, 7, most_features(mixed)):
        np.testing.assert_array_equal(features(some, count, mixed), everything[:, :count])


def test_the_share_pasted_is_the_area_of_the_box() -> None:
    assert (pasted(drawn("none")) == 0).all()
    some = drawn("cutmix_images")
    for share, (left, top, right, bottom) in zip(pasted(some), some.mix_box, strict=True):
        assert share == pytest.approx((right - left) * (bottom - top)) and 0 <= share <= 1
