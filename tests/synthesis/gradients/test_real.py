"""Real images: drawn without replacement as a function of (seed, step); exact mean and deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matching_scenes import SIZE, World

from dcpipe.synthesis.gradients.real import RealImages, colours
from dcpipe.types import DataError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def dealer(world: World, seed: int = 0, batch: int = 4) -> RealImages:
    return RealImages(world.context, 3, seed, batch)


def test_class_batches_are_drawn_without_replacement(world: World) -> None:
    real = dealer(world, batch=3)
    for label in range(3):
        own = np.flatnonzero(world.labels == label)
        rounds = len(own) // 3  # an incomplete batch of a round is dropped
        for epoch in range(4):
            dealt = np.concatenate([real.class_batches(epoch * rounds + k)[label] for k in range(rounds)])
            assert len(dealt) == len(set(dealt)) == 3 * rounds and set(dealt) <= set(own)


def test_mixed_batches_are_drawn_without_replacement(world: World) -> None:
    real = dealer(world)
    rounds = len(world.labels) // 8
    for epoch in range(3):
        dealt = np.concatenate([real.mixed_batch(epoch * rounds + k, 8) for k in range(rounds)])
        assert len(dealt) == len(set(dealt)) == 8 * rounds
    assert sorted(real.mixed_batch(5, 100)) == list(range(len(world.labels)))  # no more than there are


def test_rounds_are_shuffled_anew(world: World) -> None:
    real = dealer(world, batch=10)  # one round per step for two of the classes
    assert not np.array_equal(real.class_batches(0)[2], real.class_batches(1)[2])
    assert not np.array_equal(real.mixed_batch(0, 33), real.mixed_batch(1, 33))
    ranks = [np.argsort(np.argsort(real.class_batches(0)[c])) for c in (0, 2)]
    assert not np.array_equal(*ranks)  # classes are shuffled apart


def test_steps_do_not_depend_on_those_before(world: World) -> None:
    before = dealer(world)
    by_class = [before.class_batches(step) for step in range(7)]
    mixed = [before.mixed_batch(step, 8) for step in range(7)]
    for step in (6, 2, 4):
        assert np.array_equal(dealer(world).class_batches(step), by_class[step])
        assert np.array_equal(before.class_batches(step), by_class[step])
        assert np.array_equal(before.mixed_batch(step, 8), mixed[step])
    other = dealer(world, seed=1)
    assert not np.array_equal(other.class_batches(0), by_class[0]) and not np.array_equal(
        other.mixed_batch(0, 8), mixed[0]
    )


def test_the_first_images_are_distinct_and_of_their_class(world: World) -> None:
    rows = dealer(world).first(7)
    for label in range(3):
        assert len(set(rows[label])) == 7 and (world.labels[rows[label]] == label).all()


def test_images_are_returned_unchanged_or_normalised(world: World) -> None:
    real = dealer(world)
    rows = np.array([30, 3, 3])
    plain = real.take(rows, normalised=False)
    expected = torch.from_numpy(world.images[rows]).permute(0, 3, 1, 2).double() / 255
    assert plain.dtype == torch.float32
    torch.testing.assert_close(plain.double(), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(real.take(rows), (plain - real.mean) / real.std, rtol=0, atol=1e-6)
    assert real.labels[torch.from_numpy(rows)].tolist() == world.labels[rows].tolist()


def test_colours_are_exact(world: World) -> None:
    mean, std = colours(torch.from_numpy(world.images))
    parts = world.images.astype(np.float64).reshape(-1, 3) / 255
    assert mean.shape == std.shape == (3, 1, 1) and mean.dtype == torch.float32
    np.testing.assert_array_equal(mean.flatten().numpy(), parts.mean(0).astype(np.float32))
    np.testing.assert_allclose(std.flatten().numpy(), parts.std(0), rtol=1e-7)


def test_a_channel_of_one_value_becomes_zero() -> None:
    pixels = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8)
    pixels[..., 1] = 77
    mean, std = colours(pixels)
    assert std.flatten()[1] == 1
    normalised = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
    assert normalised[:, 1].abs().max() < 1e-6


def test_refusals(world: World) -> None:
    with pytest.raises(DataError) as caught:
        dealer(world, batch=11)
    assert str(caught.value) == "synthesis: real_batch is 11, but class 2 has 10 images; lower real_batch to 10"
    with pytest.raises(DataError) as caught:
        RealImages(world.context, 4, 0, 4)
    assert str(caught.value) == ("synthesis: class 3 has no real images to match; add some, or leave the class out")
    with pytest.raises(DataError) as caught:
        dealer(world).first(11)
    assert str(caught.value) == (
        "synthesis: 11 real images per class are needed for the start, but a class has 10; lower ipc"
    )
