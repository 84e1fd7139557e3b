"""The box of CutMix in pixels: the official law against one in whole numbers, and its exact mean area."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import store, views
from dcpipe.config import params
from dcpipe.types import DataError, ViewPolicy
from dcpipe.views.boxes import cutmix_box, even_pixels, in_pixels, share_outside

SHARES = st.floats(0.0, 1.0, exclude_max=True)
EVEN = ViewPolicy(mix="cutmix_images", mix_box="even", seed=3)


def official(size: int, area: float, x: float, y: float) -> list[int]:
    """The box of one view: all numbers are whole from the side on."""
    side, centres = int(size * math.sqrt(area)), (int(x * size), int(y * size))
    low = [min(max(centre - side // 2, 0), size) for centre in centres]
    high = [min(max(centre + side // 2, 0), size) for centre in centres]
    return [*low, *high]


def mean_share(size: int) -> Fraction:
    """The mean share of a view that is pasted, over all areas and centres, without a random number: a side of k pixels
    is as probable as an area between k^2 and (k + 1)^2, and both axes are independent."""
    total = Fraction(0)
    for side in range(size):
        wide = sum(min(c + side // 2, size) - max(c - side // 2, 0) for c in range(size))
        total += Fraction((side + 1) ** 2 - side**2, size**2) * Fraction(wide, size * size) ** 2
    return total


@settings(deadline=None, max_examples=200)
@given(area=SHARES, x=SHARES, y=SHARES, size=st.integers(1, 300))
def test_even_sides_are_those_of_the_official_law(area: float, x: float, y: float, size: int) -> None:
    [found] = even_pixels(np.array([[area, x, y]]), size).tolist()
    assert found == official(size, area, x, y)


@pytest.mark.parametrize(("size", "expected"), [(32, 0.29925), (64, 0.31010), (224, 0.31778)])
def test_the_mean_share_is_exactly_that_of_the_law(size: int, expected: float) -> None:
    assert float(mean_share(size)) == pytest.approx(expected, abs=5e-6)
    n = 40_000
    drawn = views.draw(EVEN, np.arange(n), np.full(n, 4), n)
    pasted = 1 - drawn.unmixed_share(size)
    assert abs(pasted.mean() - expected) < 5 * pasted.std() / np.sqrt(n)
    rounded = views.draw(ViewPolicy(mix="cutmix_images", seed=3), np.arange(n), np.full(n, 4), n)
    assert (1 - rounded.unmixed_share(size)).mean() > pasted.mean() + 0.003


def test_both_laws_cut_at_the_same_place() -> None:
    n, size = 500, 1000
    even, rounded = (
        views.draw(policy, np.arange(n), np.zeros(n, dtype=np.int64), n)
        for policy in (EVEN, ViewPolicy(mix="cutmix_images", seed=3))
    )
    for name in ("box", "flip", "partner", "mix_box"):
        np.testing.assert_array_equal(getattr(even, name), getattr(rounded, name))
    far = np.abs(even.pixels(size) - rounded.pixels(size))
    assert 0 < far.max() <= 3
    part = even[np.array([7, 2])]
    assert part.pixels(32).tolist() == even.pixels(32)[[7, 2]].tolist()


def test_views_that_are_not_mixed_have_no_box() -> None:
    n = 2000
    policy = ViewPolicy(mix="cutmix_labels", mix_share=0.5, mix_box="even", seed=1)
    drawn = views.draw(policy, np.arange(n), np.zeros(n, dtype=np.int64), n)
    mixed = drawn.mix_box.any(axis=1)
    assert 0.4 < mixed.mean() < 0.6
    assert (drawn.unmixed_share(32)[~mixed] == 1).all()
    assert (drawn.unmixed_share(32)[mixed] < 1).mean() > 0.98


def test_pixels_are_pasted_where_the_box_is() -> None:
    images = torch.zeros(40, 16, 16, 3, dtype=torch.uint8)
    images[:, 0, 0] = 255  # only to have images that differ from their partners' colour below
    rows, numbers = np.arange(40), np.full(40, 2)
    _, drawn = views.render(images, EVEN, rows, rows, numbers, 16)
    pasted = views.paste(torch.zeros(40, 3, 16, 16), torch.ones(40, 3, 16, 16), drawn)
    for j, (left, top, right, bottom) in enumerate(drawn.pixels(16).tolist()):
        assert pasted[j].sum() == 3 * (right - left) * (bottom - top)
        assert (right - left) % 2 == 0 or left == 0 or right == 16
        assert pasted[j, :, top:bottom, left:right].all()


def test_the_law_is_in_the_policy_only_where_it_is_not_the_default() -> None:
    assert "mix_box" not in store.describe_views(ViewPolicy(mix="cutmix_labels"))
    assert store.describe_views(EVEN)["mix_box"] == "even"
    block = params.Augmentation(mix_box="even")
    assert block.policy(3, "cutmix_images") == EVEN
    assert "mix_box" not in params.Augmentation().model_dump() and block.model_dump()["mix_box"] == "even"
    with pytest.raises(DataError, match="views: unknown mix_box 'odd'; choose one of rounded, even"):
        ViewPolicy(mix_box="odd")  # type: ignore[arg-type]


@settings(deadline=None, max_examples=100)
@given(area=SHARES, x=SHARES, y=SHARES, size=st.integers(1, 64))
def test_lambda_is_the_share_that_a_loop_counts(area: float, x: float, y: float, size: int) -> None:
    cut = np.array([[area, x, y]])
    for bounds in (even_pixels(cut, size), in_pixels(cutmix_box(*cut.T), size)):
        left, top, right, bottom = bounds[0].tolist()
        assert 0 <= left <= right <= size and 0 <= top <= bottom <= size
        inside = sum(left <= i < right and top <= j < bottom for i in range(size) for j in range(size))
        assert share_outside(bounds, size)[0] == pytest.approx(1 - inside / size**2)
