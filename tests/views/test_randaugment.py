"""RandAugment against torchvision's operations, patches moved one by one, and random numbers that never change."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from dcpipe import store, views
from dcpipe.config import blocks, params
from dcpipe.random import philox
from dcpipe.types import DataError, ViewPolicy
from dcpipe.views import Views, randaugment

NAMES = list(randaugment.OPERATIONS)
SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
EVERY = [(name, sign) for name in NAMES for sign in ((1, -1) if name in SIGNED else (1,))]

# Seed 7; written once, as labels stored under such policies belong to these draws.
GOLDEN_OPS = [[0, 12, 0], [13, 3, 4], [9, 1, 8], [8, 10, 3]]
GOLDEN_SIGNS = [[1, 1, 1], [1, -1, 1], [-1, 1, -1], [1, 1, -1]]
GOLDEN_PATCHES = [[2, 3, 1, 0], [2, 3, 1, 0], [2, 1, 3, 0], [3, 1, 2, 0]]
GOLDEN_NINE = [
    [8, 2, 3, 5, 4, 1, 0, 6, 7],
    [2, 5, 8, 3, 4, 1, 0, 7, 6],
    [2, 1, 3, 8, 5, 6, 0, 7, 4],
    [3, 1, 2, 4, 8, 7, 0, 5, 6],
]


NO_STRATEGY = (
    "siamese: invalid strategy 'colour'; join different names of flip, color, crop, scale, rotate, cutout by _, "
    "as in color_crop, or in dsa:color_crop to apply one of them at a time"
)


def column(n: int, value: int = 0) -> np.ndarray:
    return np.full(n, value, dtype=np.int64)


def pictures(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Noise, a ramp, and low contrast: where stretching and equalising have something to do."""
    noise = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    noise[1::3] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    noise[2::3] = 90 + noise[2::3] // 6
    return torch.from_numpy(noise)


def theirs(image: torch.Tensor, name: str, sign: int) -> torch.Tensor:
    """One of torchvision's operations at its default strength on one image u8 [h, w, 3]."""
    height, width = image.shape[:2]
    space = RandAugment()._augmentation_space(31, (height, width))
    values, signed = space[name]
    amount = float(values[9]) if values.ndim else 0.0
    assert signed == (name in SIGNED)
    made = _apply_op(image.permute(2, 0, 1), name, sign * amount, InterpolationMode.NEAREST, None)
    return made.permute(1, 2, 0)


# --- the operations ---


def test_the_table_is_torchvisions() -> None:
    space = RandAugment()._augmentation_space(31, (20, 30))
    assert list(space) == NAMES
    for name, (values, signed) in space.items():
        assert randaugment.OPERATIONS[name][1] == signed
        if values.ndim:
            assert randaugment.strength(name, 20, 30) == float(values[9]), name


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24), (8, 331)])
@pytest.mark.parametrize(("name", "sign"), EVERY)
def test_each_operation_is_torchvisions(name: str, sign: int, height: int, width: int) -> None:
    images = pictures(3, height, width)
    ops, signs = column(3, NAMES.index(name))[:, None], column(3, sign)[:, None]
    ours = randaugment.randaugment(images, ops, signs)
    assert ours.dtype == torch.uint8 and ours.shape == images.shape
    wanted = torch.stack([theirs(image, name, sign) for image in images])
    # Torchvision's older functions, which `_apply_op` calls, round once more on the way in four operations.
    rounded = name in {"Color", "Contrast", "Sharpness", "AutoContrast"}
    assert int((ours.int() - wanted.int()).abs().max()) <= rounded
    assert float((ours != wanted).float().mean()) < (0.1 if name == "Sharpness" else 0.01)
    assert (name == "Identity") == torch.equal(ours, images)


def test_a_batch_is_its_images_one_by_one_in_their_order() -> None:
    n = 60
    images, kept = pictures(n, 10, 12), pictures(n, 10, 12)
    source = np.random.default_rng(1)
    ops = source.integers(0, 14, (n, 3))
    signs = np.where(source.random((n, 3)) < 0.5, -1, 1)
    batch = randaugment.randaugment(images, ops, signs)
    assert torch.equal(images, kept), "the images themselves were changed"
    for row in range(n):
        one = images[row : row + 1].permute(0, 3, 1, 2)
        for op, sign in zip(ops[row], signs[row], strict=True):
            one = randaugment.change(one, NAMES[op], int(sign))
        assert torch.equal(batch[row], one[0].permute(1, 2, 0)), row
    order = source.permutation(n)
    assert torch.equal(randaugment.randaugment(images[order], ops[order], signs[order]), batch[order])
    assert randaugment.randaugment(images[:0], ops[:0], signs[:0]).shape == (0, 10, 12, 3)


# --- patches ---


@settings(deadline=None, max_examples=30)
@given(f=st.integers(1, 4), down=st.integers(1, 3), across=st.integers(1, 3), seed=st.integers(0, 99))
def test_patches_move_as_they_are_told(f: int, down: int, across: int, seed: int) -> None:
    images = pictures(4, f * down, f * across, seed)
    patches = views.draw(ViewPolicy(shuffle=f, seed=seed), np.arange(4), column(4), 4).patches
    if f == 1:
        assert patches is None
        return
    assert np.array_equal(np.sort(patches, axis=1), np.tile(np.arange(f * f), (4, 1)))
    found = randaugment.shuffle(images, torch.from_numpy(patches))
    for row in range(4):
        for place, source in enumerate(patches[row]):
            top, left = place // f * down, place % f * across
            y, x = int(source) // f * down, int(source) % f * across
            wanted = images[row, y : y + down, x : x + across]
            assert torch.equal(found[row, top : top + down, left : left + across], wanted)


def test_patches_of_float_images_have_gradients() -> None:
    images = torch.rand(1, 2, 2, 3, requires_grad=True)
    randaugment.shuffle(images, torch.tensor([[3, 0, 1, 2]]))[0, 0, 0].sum().backward()
    assert images.grad is not None and images.grad[0].sum(-1).tolist() == [[0, 0], [0, 3]]


# --- what is drawn ---


def test_golden_draws() -> None:
    ids, numbers = np.array([0, 1, 12_345, 2**40]), np.array([0, 299, 1, 2**31])
    drawn = views.draw(ViewPolicy(randaugment=3, shuffle=2, seed=7), ids, numbers, 9)
    assert drawn.ops.tolist() == GOLDEN_OPS
    assert drawn.signs.tolist() == GOLDEN_SIGNS
    assert drawn.patches.tolist() == GOLDEN_PATCHES
    three = views.draw(ViewPolicy(shuffle=3, seed=7), ids, numbers, 9)
    assert three.patches.tolist() == GOLDEN_NINE


def test_operations_by_python_integers() -> None:
    words = philox(3, np.arange(50), 32, 8)
    ops, signs = randaugment.operations(words)
    for row, (first, second) in enumerate(words[:, :2].tolist()):
        op = (first // 2**32) * 14 // 2**32
        assert ops[row] == op
        assert signs[row] == (-1 if NAMES[op] in SIGNED and second >= 2**63 else 1)
    ends = np.array([[0, 0, 0, 0], [2**64 - 1, 2**64 - 1, 0, 0]], dtype=np.uint64)
    assert randaugment.operations(ends)[0].tolist() == [0, 13]


def test_operations_signs_and_patches_are_uniform_and_independent() -> None:
    n = 28_000
    drawn = views.draw(ViewPolicy(randaugment=2, shuffle=2), np.arange(n) // 4, np.arange(n) % 4, n)
    expected = n / 14
    for step in range(2):
        counts = np.bincount(drawn.ops[:, step], minlength=14)
        assert len(counts) == 14 and np.abs(counts - expected).max() < 5 * np.sqrt(expected)
        for op, name in enumerate(NAMES):
            signs = drawn.signs[drawn.ops[:, step] == op, step]
            if name in SIGNED:
                assert abs(signs.mean()) < 5 / np.sqrt(len(signs))
            else:
                assert (signs == 1).all()
    pairs = np.bincount(drawn.ops[:, 0] * 14 + drawn.ops[:, 1], minlength=196)
    assert np.abs(pairs - n / 196).max() < 6 * np.sqrt(n / 196)
    _, orders = np.unique(drawn.patches, axis=0, return_counts=True)
    assert len(orders) == 24 and np.abs(orders - n / 24).max() < 5 * np.sqrt(n / 24)


def test_nothing_else_that_is_drawn_changes() -> None:
    plain = ViewPolicy(mix="cutmix_images", seed=5)
    ids, numbers = np.arange(9), column(9, 2)
    before, after = (views.draw(p, ids, numbers, 9) for p in (plain, replace(plain, randaugment=2, shuffle=3)))
    for name in ("box", "flip", "partner", "mix_box"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert (before.ops, before.signs, before.patches) == (None, None, None)
    more = views.draw(replace(plain, randaugment=5), ids, numbers, 9)
    np.testing.assert_array_equal(more.ops[:, :2], after.ops)  # a step is drawn whatever comes after it
    again = views.draw(replace(plain, randaugment=2, shuffle=3), ids[::-1], numbers, 9)
    for name in ("ops", "signs", "patches"):
        np.testing.assert_array_equal(getattr(again, name)[::-1], getattr(after, name))


# --- views ---


def test_views_apply_both_before_the_crop_and_slice() -> None:
    images, n = pictures(6, 12, 12), 6
    drawn = views.draw(ViewPolicy(scale_min=0.3, randaugment=2, shuffle=3, seed=1), np.arange(n), column(n), n)
    plain = Views(drawn.box, drawn.flip, drawn.partner, drawn.mix_box)
    changed = randaugment.shuffle(
        randaugment.randaugment(images, drawn.ops, drawn.signs), torch.from_numpy(drawn.patches)
    )
    seen = views.crop(images, drawn, 8)
    assert torch.equal(seen, views.crop(changed, plain, 8))
    assert not torch.equal(seen, views.crop(images, plain, 8))
    for index in (slice(2, 5), np.array([4, 0]), drawn.flip):
        part = drawn[index]
        torch.testing.assert_close(views.crop(images[index], part, 8), seen[index], rtol=0, atol=0)
    assert drawn[:2].patches.shape == (2, 9) and plain[:2].ops is None and len(plain[:2]) == 2


def test_a_pasted_image_has_operations_of_its_own() -> None:
    policy, ids = ViewPolicy(randaugment=2, shuffle=2, mix="cutmix_images", seed=3), np.array([4, 8, 15, 16])
    images, rows, numbers = pictures(4, 8, 8), np.array([2, 0, 1, 3]), column(4, 6)
    mixed, drawn = views.render(images, policy, ids, rows, numbers, 8)
    own = views.draw(policy, ids[rows], numbers, 4)
    other = views.draw(policy, ids[own.partner], numbers, 4)
    np.testing.assert_array_equal(drawn.ops, own.ops)
    assert (own.ops != other.ops).any() and (own.patches != other.patches).any()
    for j, (left, top, right, bottom) in enumerate(own.pixels(8)):
        wanted = views.crop(images[rows[j : j + 1]], own[j : j + 1], 8)[0]
        pasted = views.crop(images[own.partner[j : j + 1]], other[j : j + 1], 8)[0]
        wanted[:, top:bottom, left:right] = pasted[:, top:bottom, left:right]
        torch.testing.assert_close(mixed[j], wanted, rtol=0, atol=0)


def test_policies_are_written_and_read_as_before() -> None:
    old = {"scale_min": 0.08, "scale_max": 1.0, "flip": 0.5, "mix": "none", "seed": 0}
    old |= {"ratio_min": 3 / 4, "ratio_max": 4 / 3}
    assert store.describe_views(ViewPolicy()) == old and ViewPolicy(**old) == ViewPolicy()
    for policy in (
        *(ViewPolicy(randaugment=2), ViewPolicy(shuffle=2), ViewPolicy(randaugment=1, shuffle=3, seed=4)),
        *(ViewPolicy(siamese="color_crop"), ViewPolicy(mix="cutmix_labels", mix_share=0.0)),
    ):
        assert ViewPolicy(**store.describe_views(policy)) == policy
        assert ViewPolicy(**asdict(policy)) == policy
    assert store.describe_views(ViewPolicy(randaugment=2)) == {**old, "randaugment": 2}
    assert store.describe_views(ViewPolicy(siamese="flip", mix_share=0.5)) == {
        **old,
        "siamese": "flip",
        "mix_share": 0.5,
    }
    assert ViewPolicy(randaugment=2, shuffle=2, mix="cutmix_labels").labelling == ViewPolicy(randaugment=2, shuffle=2)


def test_parameters_are_passed_on() -> None:
    block = params.Augmentation(scale_min=0.5, randaugment=2, shuffle=3)
    wanted = ViewPolicy(scale_min=0.5, randaugment=2, shuffle=3, mix="cutmix_images", seed=8)
    assert block.policy(8, "cutmix_images") == wanted
    block = params.Augmentation(scale_min=1.0, flip=0.0, siamese="dsa:crop_color", mix_share=0.5)
    wanted = ViewPolicy(scale_min=1.0, flip=0.0, siamese="dsa:crop_color", mix_share=0.5, mix="cutmix_labels", seed=8)
    assert block.policy(8, "cutmix_labels") == wanted
    for content, sentence in (
        ({"randaugment": -1}, "x: randaugment is -1: input should be greater than or equal to 0"),
        ({"randaugment": 17}, "x: randaugment is 17: input should be less than or equal to 16"),
        ({"shuffle": 0}, "x: shuffle is 0: input should be greater than or equal to 1"),
        ({"shuffle": 2.0}, "x: shuffle is 2.0: input should be a valid integer"),
        ({"mix_share": 1.5}, "x: mix_share is 1.5: input should be less than or equal to 1"),
        ({"siamese": "colour"}, f"x: siamese is 'colour': {NO_STRATEGY}"),
    ):
        with pytest.raises(DataError) as error:
            blocks.checked(params.Augmentation, content, "x")
        assert str(error.value) == sentence


def test_what_cannot_be_done_is_said() -> None:
    for change, sentence in (
        ({"randaugment": -1}, "views: randaugment is a number of operations in 0..16, got -1"),
        ({"randaugment": 17}, "views: randaugment is a number of operations in 0..16, got 17"),
        ({"shuffle": 0}, "views: shuffle is a number of patches per side in 1..16, got 0"),
        ({"shuffle": 17}, "views: shuffle is a number of patches per side in 1..16, got 17"),
        ({"mix_share": -0.1}, "views: mix_share is a probability in 0..1, got -0.1"),
        ({"mix_share": 1.1}, "views: mix_share is a probability in 0..1, got 1.1"),
        ({"siamese": "colour"}, NO_STRATEGY),
    ):
        with pytest.raises(DataError) as error:
            ViewPolicy(**change)
        assert str(error.value) == sentence
    with pytest.raises(DataError) as error:
        randaugment.shuffle(pictures(1, 8, 10), torch.arange(9)[None])
    assert str(error.value) == "views: shuffle is 3, which does not divide images of 8 x 10 pixels; choose a divisor"
    with pytest.raises(DataError) as error:
        randaugment.randaugment(torch.rand(1, 4, 4, 3), column(1)[:, None], column(1, 1)[:, None])
    assert str(error.value) == "views: RandAugment needs images of type uint8, got float32; convert them"
