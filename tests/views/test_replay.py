"""Views of a set of images: drawn or stored, mixed with those of a partner, independent of the rest of the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from view_cases import SIAMESE, column, random_images, stored_views

from dcpipe import views
from dcpipe.types import ViewPolicy


def test_a_mixed_view_is_made_of_the_same_view_of_two_images() -> None:
    images, ids, n = random_images(9, 8, 8), np.arange(9) * 10 + 3, 9
    policy = ViewPolicy(mix="cutmix_images", seed=5)
    seen, drawn = views.render(images, policy, ids, np.arange(n), column(n, 6), 8)
    plain, _ = views.render(images, replace(policy, mix="none"), ids, np.arange(n), column(n, 6), 8)
    for j in range(n):
        x0, y0, x1, y1 = drawn.pixels(8)[j]
        expected = plain[j].clone()
        expected[:, y0:y1, x0:x1] = plain[drawn.partner[j], :, y0:y1, x0:x1]
        assert torch.equal(seen[j], expected)
    assert not torch.equal(seen, plain)


@pytest.mark.parametrize("mix", ["none", "cutmix_images"])
@pytest.mark.parametrize("size", [8, 16])
def test_a_view_does_not_depend_on_the_rest_of_the_batch(mix: str, size: int) -> None:
    images, ids = random_images(11, 8, 8), np.arange(11) + 100
    policy = ViewPolicy(mix=mix, seed=9)
    rows = np.array([0, 3, 3, 10, 7, 1, 2, 5])
    numbers = np.array([0, 0, 1, 299, 4, 4, 4, 7])
    together, drawn = views.render(images, policy, ids, rows, numbers, size)
    for j in range(len(rows)):
        alone, one = views.render(images, policy, ids, rows[j : j + 1], numbers[j : j + 1], size)
        assert torch.equal(alone[0], together[j])
        assert one.box.tolist() == drawn.box[j : j + 1].tolist()
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    shuffled, _ = views.render(images, policy, ids, rows[order], numbers[order], size)
    assert torch.equal(shuffled, together[torch.from_numpy(order)])


def test_siamese_views_do_not_depend_on_their_batch() -> None:
    ids = np.array([4, 8, 15, 16, 23, 42])
    images, rows, numbers = random_images(6, 8, 8), np.arange(6), np.array([7, 7, 7, 0, 1, 2])
    whole, _ = views.render(images, SIAMESE, ids, rows, numbers, 8)
    for j in range(6):
        one, _ = views.render(images, SIAMESE, ids, rows[j : j + 1], numbers[j : j + 1], 8)
        torch.testing.assert_close(one[0], whole[j], rtol=0, atol=1e-6)
    other, _ = views.render(images, replace(SIAMESE, seed=5), ids, rows, numbers, 8)
    assert (other != whole).flatten(1).any(1).all()
    empty, _ = views.render(images, SIAMESE, ids, rows[:0], numbers[:0], 8)
    assert empty.shape == (0, 3, 8, 8)


def test_a_pasted_image_was_augmented_by_itself() -> None:
    ids, rows, numbers = np.array([4, 8, 15, 16]), np.array([2, 0, 1, 3]), column(4, 6)
    images = random_images(4, 8, 8)
    mixed, drawn = views.render(images, SIAMESE, ids, rows, numbers, 8)
    other = views.draw(SIAMESE, ids[drawn.partner], numbers, 4)
    for j, (left, top, right, bottom) in enumerate(drawn.pixels(8)):
        wanted = views.crop(images[rows[j : j + 1]], drawn[j : j + 1], 8)[0]
        pasted = views.crop(images[drawn.partner[j : j + 1]], other[j : j + 1], 8)[0]
        wanted[:, top:bottom, left:right] = pasted[:, top:bottom, left:right]
        torch.testing.assert_close(mixed[j], wanted, rtol=0, atol=1e-6)


def test_seeded_views_are_those_drawn() -> None:
    policy, ids = ViewPolicy(mix="cutmix_images", seed=3), np.array([4, 8, 15])
    rows, numbers = np.array([2, 0]), np.array([5, 1])
    found = views.views_of(policy, ids)
    own = found.parameters(rows, numbers)
    wanted = views.draw(policy, ids[rows], numbers, 3)
    for name in ("box", "flip", "partner", "mix_box"):
        np.testing.assert_array_equal(getattr(own, name), getattr(wanted, name))
    theirs = found.partners(rows, numbers, own)
    np.testing.assert_array_equal(theirs.box, views.draw(policy, ids[wanted.partner], numbers, 3).box)
    assert not own.inside


def view_by_hand(image: torch.Tensor, box: np.ndarray, flip: bool, size: int) -> torch.Tensor:
    """Cut the piece out, enlarge it, turn it."""
    height, width = image.shape[:2]
    left, top, across, down = np.rint(box * [width, height, width, height]).astype(int)
    piece = image[None, top : top + down, left : left + across].permute(0, 3, 1, 2).float() / 255
    view = torch.nn.functional.interpolate(piece, (size, size), mode="bilinear", align_corners=False)[0]
    return torch.flip(view, [2]) if flip else view


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    mix=st.sampled_from(["none", "cutmix_images"]),
    number=st.integers(0, 8),
    sides=st.sampled_from([(8, 8), (6, 11), (13, 5)]),
)
def test_kept_views_are_pieces_cut_out_enlarged_and_pasted(
    seed: int, mix: str, number: int, sides: tuple[int, int]
) -> None:
    """Of oblong images too: samples stay in the piece, which lies elsewhere across than down."""
    height, width = sides
    stored, images = stored_views(4, 3, height, width, 8, mix, seed), random_images(4, height, width, seed)
    rows = np.array([2, 0, 3, 2])
    found, _ = views.render(images, stored, np.array([9, 5, 7, 1]), rows, np.full(4, number), 8)
    at = stored.arrays
    for place, row in enumerate(rows):
        k = number % 3
        wanted = view_by_hand(images[row], at["box"][row, k], at["flip"][row, k], 8)
        if mix != "none":
            partner = images[at["partner"][row, k]]
            other = view_by_hand(partner, at["partner_box"][row, k], at["partner_flip"][row, k], 8)
            left, top, right, bottom = at["mix_box"][row, k]
            wanted[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        torch.testing.assert_close(found[place], wanted, rtol=0, atol=5e-6)


def test_kept_views_come_round_after_their_number() -> None:
    """There is no policy to draw new views from."""
    stored, rows = stored_views(k=3), np.array([3, 0, 1])
    whole = views.views_of(stored, np.arange(4))
    first, again = (whole.parameters(rows, column(3, number)) for number in (1, 7))
    for name in ("box", "flip", "partner", "mix_box"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.box, whole.parameters(rows, column(3, 2)).box)
    assert first.inside and first.box.dtype == np.float64
