"""Views applied: crops, flips and mixes against a slow reference, one pixel at a time in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from view_cases import column, random_images, whole

from dcpipe import views
from dcpipe.types import ViewPolicy


def slow_crop(image: np.ndarray, box: np.ndarray, flip: bool, size: int) -> np.ndarray:
    """One view [3, size, size] of an image u8 [h, w, 3]: bilinear between pixel centres, edges repeated."""
    height, width = image.shape[:2]
    pixels = image.astype(np.float64) / 255
    out = np.zeros((3, size, size))
    for row in range(size):
        for col in range(size):
            across = (col + 0.5) / size
            x = (box[0] + (1 - across if flip else across) * box[2]) * width - 0.5
            y = (box[1] + (row + 0.5) / size * box[3]) * height - 0.5
            x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
            left, top = int(x), int(y)
            right, low = min(left + 1, width - 1), min(top + 1, height - 1)
            fx, fy = x - left, y - top
            upper = (1 - fx) * pixels[top, left] + fx * pixels[top, right]
            lower = (1 - fx) * pixels[low, left] + fx * pixels[low, right]
            out[:, row, col] = (1 - fy) * upper + fy * lower
    return out


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 8), (8, 8, 13), (6, 11, 5), (1, 1, 4)])
def test_crop_is_the_bilinear_reference(height: int, width: int, size: int) -> None:
    images = random_images(6, height, width)
    drawn = views.draw(ViewPolicy(scale_min=0.1, seed=3), np.arange(6), column(6, 2), 6)
    assert drawn.flip.any() and not drawn.flip.all()
    seen = views.crop(images, drawn, size)
    assert seen.dtype == torch.float32 and seen.shape == (6, 3, size, size)
    for j in range(6):
        expected = slow_crop(images[j].numpy(), drawn.box[j], bool(drawn.flip[j]), size)
        np.testing.assert_allclose(seen[j].numpy(), expected, rtol=0, atol=2e-5)


def test_float_and_byte_images_are_seen_alike() -> None:
    images = random_images(4, 8, 8)
    drawn = views.draw(ViewPolicy(), np.arange(4), column(4), 4)
    assert torch.equal(views.crop(images, drawn, 8), views.crop(images.float() / 255, drawn, 8))


def test_the_full_box_is_the_image_and_a_resize() -> None:
    images = random_images(3, 12, 12)
    pixels = images.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(views.crop(images, whole(3), 12), pixels, rtol=0, atol=1e-5)
    for size in (5, 12, 30):
        resized = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
        torch.testing.assert_close(views.crop(images, whole(3), size), resized, rtol=0, atol=1e-5)


def test_scale_one_without_flip_is_the_resize_too() -> None:
    images = random_images(3, 9, 9)
    policy = ViewPolicy(scale_min=1.0, flip=0.0, ratio_min=1.0, ratio_max=1.0)
    seen, _ = views.render(images, policy, np.arange(3), np.arange(3), column(3), 9)
    torch.testing.assert_close(seen, images.permute(0, 3, 1, 2).float() / 255, rtol=0, atol=1e-5)


def test_a_flip_mirrors_and_two_flips_undo_it() -> None:
    images = random_images(3, 10, 10)
    once = views.crop(images, whole(3, flip=True), 10)
    straight = views.crop(images, whole(3), 10)
    torch.testing.assert_close(once, straight.flip(3), rtol=0, atol=1e-5)
    twice = views.crop(once.permute(0, 2, 3, 1), whole(3, flip=True), 10)
    torch.testing.assert_close(twice, straight, rtol=0, atol=1e-5)
    drawn = views.draw(ViewPolicy(flip=0.0), np.arange(3), column(3), 3)
    mirrored = replace(drawn, flip=~drawn.flip)
    torch.testing.assert_close(views.crop(images, mirrored, 8), views.crop(images, drawn, 8).flip(3), rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), view=st.integers(0, 500), size=st.integers(1, 20))
def test_paste_takes_exactly_the_share_that_lambda_says(seed: int, view: int, size: int) -> None:
    drawn = views.draw(ViewPolicy(mix="cutmix_images", seed=seed), np.arange(7), column(7, view), 7)
    mixed = views.paste(torch.zeros(7, 3, size, size), torch.ones(7, 3, size, size), drawn)
    share = mixed.mean(dim=(1, 2, 3), dtype=torch.float64).numpy()
    np.testing.assert_allclose(share, 1 - drawn.unmixed_share(size), rtol=0, atol=1e-12)
    x0, y0, x1, y1 = drawn.pixels(size)[0]
    assert (mixed[0, :, y0:y1, x0:x1] == 1).all()


@pytest.mark.parametrize(
    "policy",
    [
        ViewPolicy(flip=0.0),
        ViewPolicy(scale_min=1.0, ratio_min=1.0, ratio_max=1.0, flip=1.0),
        ViewPolicy(scale_min=1.0, ratio_min=1.0, ratio_max=1.0, flip=0.0, mix="cutmix_images"),
    ],
    ids=["crop", "flip", "mix"],
)
def test_each_random_operation_changes_pixels_to_legal_ones(policy: ViewPolicy) -> None:
    images = random_images(12, 8, 8)
    plain = views.crop(images, whole(12), 8)
    seen, _ = views.render(images, policy, np.arange(12), np.arange(12), column(12), 8)
    changed = (seen - plain).abs().amax(dim=(1, 2, 3)) > 0.01
    assert changed.sum() >= 9  # a mix may pick the image itself or an empty box
    assert seen.min() >= 0 and seen.max() <= 1 + 1e-6


def test_normalise_by_channel() -> None:
    inputs = torch.rand(2, 3, 4, 4, dtype=torch.float32)
    seen = views.normalise(inputs, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)]):
        torch.testing.assert_close(seen[:, channel], (inputs[:, channel] - mean) / std)
