"""Weak augmentation: CDA's curriculum, and crops, flips and shifts that are equal for the whole batch and
reproducible."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import views
from dcpipe.synthesis.weak_augmentation import WeakAugmentation, uniforms
from dcpipe.types import DataError, ViewPolicy

STILL = {"crop_min": 1.0, "flip": 0.0}


def images_of(n: int = 2, size: int = 8) -> torch.Tensor:
    """Every pixel another number."""
    return torch.arange(1.0, n * 3 * size * size + 1).view(n, 3, size, size)


def seen(
    augmentation: WeakAugmentation, seed: int = 0, batch: int = 0, step: int = 0, steps: int = 100
) -> torch.Tensor:
    return augmentation.apply(images_of(), seed, batch, step, steps)


def test_least_area_is_cda_s_formula_at_every_step() -> None:
    augmentation = WeakAugmentation(crop_min=0.08, curriculum=0.5)
    for step in range(100):
        slow = 0.08 + 0.92 * (1 + math.cos(math.pi * step / (0.5 * 100))) / 2 if step < 50 else 0.08
        assert augmentation.least_area(step, 100) == pytest.approx(slow, abs=1e-12)
    assert augmentation.least_area(0, 100) == 1.0
    assert augmentation.least_area(25, 100) == pytest.approx(0.54)
    assert WeakAugmentation(crop_min=0.08, curriculum=1.0).least_area(50, 100) == pytest.approx(0.54)
    assert WeakAugmentation(crop_min=0.08, curriculum=1.0).least_area(100, 100) == 0.08
    assert [WeakAugmentation(crop_min=0.3).least_area(step, 10) for step in (0, 5, 9)] == [0.3] * 3


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 5000), st.data())
def test_least_area_falls_and_stays_in_range(crop_min: float, curriculum: float, steps: int, data: Any) -> None:
    step = data.draw(st.integers(0, steps - 1))
    augmentation = WeakAugmentation(crop_min=crop_min, curriculum=curriculum)
    now, later = augmentation.least_area(step, steps), augmentation.least_area(step + 1, steps)
    assert crop_min - 1e-12 <= later <= now + 1e-12 and now <= 1.0


def test_images_are_unchanged_without_augmentation() -> None:
    assert torch.equal(seen(WeakAugmentation(**STILL)), images_of())


def test_all_images_are_flipped_together_with_the_given_probability() -> None:
    assert torch.equal(seen(WeakAugmentation(crop_min=1.0, flip=1.0)), images_of().flip(3))
    turned = 0
    for step in range(400):
        found = seen(WeakAugmentation(crop_min=1.0, flip=0.3), step=step)
        assert torch.equal(found, images_of()) or torch.equal(found, images_of().flip(3))
        turned += torch.equal(found, images_of().flip(3))
    assert turned / 400 == pytest.approx(0.3, abs=0.08)


def slow_shift(down: int, across: int) -> torch.Tensor:
    """Pixel (y, x) comes from (y - down, x - across), around the edge."""
    images, found = images_of(), torch.empty_like(images_of())
    for y in range(8):
        for x in range(8):
            found[:, :, y, x] = images[:, :, (y - down) % 8, (x - across) % 8]
    return found


def test_jitter_rolls_in_both_directions_up_to_its_limit() -> None:
    legal = {(down, across): slow_shift(down, across) for down in range(-2, 3) for across in range(-2, 3)}
    met = set()
    for step in range(300):
        found = seen(WeakAugmentation(**STILL, jitter=2), step=step)
        [shift] = [shift for shift, images in legal.items() if torch.equal(found, images)]
        met.add(shift)
    assert met == set(legal)


def slow_padded(down: int, across: int, pad: int) -> torch.Tensor:
    """A window of the images in a frame of zeros."""
    found = torch.zeros_like(images_of())
    for y in range(8):
        for x in range(8):
            above, left = y + down - pad, x + across - pad
            if 0 <= above < 8 and 0 <= left < 8:
                found[:, :, y, x] = images_of()[:, :, above, left]
    return found


def test_padded_crops_are_windows_of_the_framed_images() -> None:
    legal = {(down, across): slow_padded(down, across, 1) for down in range(3) for across in range(3)}
    met, turned = set(), 0
    for step in range(150):
        found = seen(WeakAugmentation(pad=1), step=step)
        [(place, flipped)] = [
            (place, flipped)
            for place, images in legal.items()
            for flipped in (False, True)
            if torch.equal(found, images.flip(3) if flipped else images)
        ]
        met.add(place)
        turned += flipped
    assert met == set(legal) and 50 < turned < 100


def test_resized_crops_are_views_of_their_policy_and_equal_for_all_images() -> None:
    """Bilinear samples of the drawn box, pixel by pixel."""
    for step in range(6):
        found = seen(WeakAugmentation(crop_min=0.3), seed=5, batch=2, step=step)
        policy = ViewPolicy(0.3, 1.0, 0.5, seed=5)
        one = views.draw(policy, np.array([2]), np.array([step]), 1)
        left, top, width, height = one.box[0] * 8
        assert 0.3 - 1e-9 <= one.box[0, 2] * one.box[0, 3] <= 1
        images = images_of().double().numpy()
        for y, x in ((0, 0), (3, 6), (7, 7)):
            place = 7 - x if one.flip[0] else x
            row = min(max(top + (y + 0.5) * height / 8 - 0.5, 0), 7)
            column = min(max(left + (place + 0.5) * width / 8 - 0.5, 0), 7)
            a, b = min(int(row), 6), min(int(column), 6)
            down, across = row - a, column - b
            slow = (
                images[:, :, a, b] * (1 - down) * (1 - across)
                + images[:, :, a, b + 1] * (1 - down) * across
                + images[:, :, a + 1, b] * down * (1 - across)
                + images[:, :, a + 1, b + 1] * down * across
            )
            np.testing.assert_allclose(found[:, :, y, x].numpy(), slow, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("options", [{"crop_min": 0.3}, {"pad": 3}, {"jitter": 3}, {"flip": 1.0}])
def test_every_part_changes_something(options: dict[str, Any]) -> None:
    still = seen(WeakAugmentation(**STILL), step=1)
    assert not torch.equal(seen(WeakAugmentation(**(STILL | options)), step=1), still)


def test_the_curriculum_starts_with_whole_images() -> None:
    augmentation = WeakAugmentation(crop_min=0.1, curriculum=1.0, flip=0.0)
    assert torch.equal(seen(augmentation, step=0), images_of())
    assert not torch.equal(seen(augmentation, step=60), images_of())


@pytest.mark.parametrize("options", [{"crop_min": 0.3}, {"pad": 3}, {"jitter": 3}])
def test_augmentation_is_a_function_of_seed_batch_and_step(options: dict[str, Any]) -> None:
    augmentation = WeakAugmentation(**(STILL | options))
    names = [(seed, batch, step) for seed in (0, 1) for batch in (0, 1) for step in (1, 2)]
    found = [seen(augmentation, *name) for name in names]
    for name, one in zip(reversed(names), reversed(found), strict=True):
        assert torch.equal(seen(augmentation, *name), one)  # whatever was drawn before
    assert len({one.numpy().tobytes() for one in found}) >= 7


def test_augmentation_does_not_depend_on_other_images() -> None:
    augmentation = WeakAugmentation(crop_min=0.3, jitter=2)
    both = augmentation.apply(images_of(2), 0, 0, 1, 10)
    for row in range(2):
        assert torch.equal(augmentation.apply(images_of(2)[row : row + 1], 0, 0, 1, 10)[0], both[row])


@pytest.mark.parametrize("options", [{"crop_min": 0.3}, {"pad": 2}, {"jitter": 2}, {"flip": 1.0}])
def test_augmentation_is_linear_and_differentiable(options: dict[str, Any]) -> None:
    """<A x, y> = <x, A' y>: the gradient is the transpose."""
    augmentation = WeakAugmentation(**(STILL | options))
    images, other = (torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    images.requires_grad_(True)
    found = augmentation.apply(images, 0, 0, 1, 10)
    assert found.shape == images.shape
    inner = (found * other).sum()
    [gradient] = torch.autograd.grad(inner, images)
    assert inner.item() == pytest.approx((images * gradient).sum().item(), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 10**4), st.integers(0, 10**6), st.integers(1, 300))
def test_uniforms_depend_on_seed_batch_and_step(seed: int, batch: int, step: int, n: int) -> None:
    found = uniforms(seed, batch, step, n)
    assert found.shape == (n,) and found.dtype == torch.float32
    assert bool(((found >= 0) & (found < 1)).all())
    assert torch.equal(uniforms(seed, batch, step, n + 3)[:n], found)
    assert not torch.equal(uniforms(seed, batch, step + 1, n), found)
    assert not torch.equal(uniforms(seed, batch + 1, step, n), found)


def test_uniforms_are_never_rounded_up_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dcpipe.synthesis.weak_augmentation.philox", lambda *_: np.full((1, 4), 2**64 - 1, dtype=np.uint64)
    )
    assert uniforms(0, 0, 0, 3).tolist() == [1 - 2**-24] * 3


def test_uniforms_are_uniform() -> None:
    found = torch.cat([uniforms(0, 0, step, 101) for step in range(100)]).double()
    assert float(found.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(found.var()) == pytest.approx(1 / 12, abs=0.003)


def test_only_one_kind_of_crop_is_allowed() -> None:
    with pytest.raises(DataError) as caught:
        WeakAugmentation(pad=4, crop_min=0.5)
    assert str(caught.value) == (
        "crop_min is 0.5 and pad is 4, but only one kind of crop is possible; set crop_min: 1 or pad: 0"
    )
