"""The engine's steps: momentum over sweeps, frozen pixels, MDC's choices, and resuming after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matching_scenes import NETWORK, World, start_of

from dcpipe.synthesis.gradients.choices import Choices, Nested
from dcpipe.synthesis.gradients.engine import Engine
from dcpipe.synthesis.gradients.forms import Pixels
from dcpipe.synthesis.gradients.loss import StepLoss
from dcpipe.types import DataError, ImageSet

ALONE = {"learn": "nothing"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def grads(images: torch.Tensor) -> torch.Tensor:
    """Of a bowl for each class, of its own steepness."""
    steep = torch.arange(1, len(images) + 1).view(-1, 1, 1, 1, 1)
    return steep * (images - 0.3)


def pretend(engine: Engine) -> list[torch.Tensor]:
    """Replace the engine's gradients by `grads`; returns a list that collects the images of every step."""
    seen: list[torch.Tensor] = []

    def find(images: torch.Tensor, *others: Any) -> StepLoss:
        seen.append(images.clone())
        return StepLoss(torch.zeros(()), grads(images), torch.ones(()), None)

    engine.losses.compute = find  # type: ignore[assignment, method-assign]
    return seen


def spied(engine: Engine) -> list[tuple[tuple[int, ...], tuple[int, ...], bool, torch.Tensor | None]]:
    """Sizes, frozen, measure and distances of every step."""
    told: list[tuple[tuple[int, ...], tuple[int, ...], bool, torch.Tensor | None]] = []
    find: Callable[..., StepLoss] = engine.losses.compute

    def listening(*given: Any) -> StepLoss:
        found = find(*given)
        sizes, frozen, measure = given[-3:]
        told.append((tuple(sizes.tolist()), tuple(frozen.tolist()), measure, found.distances))
        return found

    engine.losses.compute = listening  # type: ignore[method-assign]
    return told


def sequential(first: torch.Tensor, lr: float, momentum: float, sweeps: int) -> list[torch.Tensor]:
    """As IDC does it: one optimiser of all images with one step per class; the images of each class at its turn."""
    images = first.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr, momentum=momentum)
    seen = []
    for _ in range(sweeps):
        met = torch.empty_like(first)
        for c in range(len(first)):
            met[c] = images[c].detach()
            images.grad = torch.zeros_like(images)
            images.grad[c] = grads(images.detach())[c]
            optimizer.step()
        seen.append(met)
    return seen


def test_one_step_for_all_is_the_sweep_over_classes(world: World) -> None:
    for momentum in (0.5, 0.9, 0.0):
        engine = world.engine(inner=6, lr=0.02, momentum=momentum, sweeps=True, **ALONE)
        first, seen = engine.pixels.clone(), pretend(engine)
        engine.run()
        expected = sequential(first, 0.02, momentum, 6)
        for ours, theirs in zip(seen, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        assert (seen[-1] - seen[0]).abs().max() > 0.05


def test_without_sweeps_it_is_plain_momentum(world: World) -> None:
    engine = world.engine(inner=5, lr=0.05, momentum=0.5, **ALONE)
    images = engine.pixels.clone().requires_grad_(True)
    seen = pretend(engine)
    engine.run()
    optimizer = torch.optim.SGD([images], 0.05, momentum=0.5)
    for ours in seen:
        torch.testing.assert_close(ours, images.detach(), rtol=0, atol=1e-6)
        images.grad = grads(images.detach())
        optimizer.step()


def test_normalised_space_takes_steps_in_units_of_the_deviation(world: World) -> None:
    engine = world.engine(inner=4, lr=0.5, momentum=0.5, space="normalised", **ALONE)
    mean, std = engine.real.mean, engine.real.std
    stored = ((engine.pixels - mean) / std).requires_grad_(True)
    seen = pretend(engine)
    engine.run()
    optimizer = torch.optim.SGD([stored], 0.5, momentum=0.5)
    for ours in seen:
        torch.testing.assert_close(ours, stored.detach() * std + mean, rtol=0, atol=1e-5)
        stored.grad = grads(stored.detach() * std + mean) * std  # chain rule
        optimizer.step()


@pytest.mark.parametrize("space", ["normalised", "pixels"])
def test_clipping_each_step_is_projected_descent_whose_images_are_stored_unchanged(world: World, space: Any) -> None:
    engine = world.engine(inner=6, lr=0.3, momentum=0.5, space=space, clip="step", initial="noise", **ALONE)
    assert engine.pixels.min() == 0 and engine.pixels.max() == 1, "the start must leave the range before it is clipped"
    images, velocity = engine.pixels.clone(), torch.zeros_like(engine.pixels)
    scale = engine.real.std.square() if space == "normalised" else 1.0
    seen: list[torch.Tensor] = []

    def find(pixels: torch.Tensor, *others: Any) -> StepLoss:
        seen.append(pixels.clone())
        return StepLoss(torch.zeros(()), pixels - 1.5, torch.ones(()), None)  # a bowl outside the range

    engine.losses.compute = find  # type: ignore[assignment, method-assign]
    stored = engine.run().images[engine.rows.reshape(-1)]
    for ours in seen:
        torch.testing.assert_close(ours, images, rtol=0, atol=1e-6)
        velocity = 0.5 * velocity + (images - 1.5) * scale
        images = (images - 0.3 * velocity).clamp(0, 1)
    last = engine.pixels.flatten(0, 1).permute(0, 2, 3, 1)
    assert (last == 1).any()
    np.testing.assert_allclose(stored / 255, last, rtol=0, atol=0.5001 / 255)


def freezing(world: World, by: Any, factor: int) -> Engine:
    """One image of classes 0 and 1 is frozen, while all pixels still have momentum."""
    engine = World(world.folder, np.repeat(np.arange(3), 12)).engine(
        ipc=3,
        lr=0.1,
        inner=50,
        initial="mix",
        factor=factor,
        strategy="color_crop_cutout",
        subsets=Nested(by=by),
    )
    assert isinstance(engine.form, Pixels)
    engine.form.velocity.fill_(0.5)
    assert engine.subsets is not None
    engine.subsets = replace(engine.subsets, chosen=np.array([2, 2, 1]), previous=np.array([1, 1, 2]))
    return engine


@pytest.mark.parametrize(("by", "factor"), [("images", 1), ("images", 2), ("cells", 2)])
def test_frozen_pixels_stay_bit_by_bit(world: World, by: Any, factor: int) -> None:
    engine = freezing(world, by, factor)
    before = engine.pixels.clone()
    for step in range(3):
        engine.step = step
        engine._inner_step()
    still = torch.zeros_like(before, dtype=torch.bool)
    if by == "images":
        still[:2, 0] = True
    else:
        still[:2, :, :, :4, :4] = True
        still[:2, 0, :, :4, 4:] = True
    assert torch.equal(engine.pixels[still], before[still])
    assert bool((engine.pixels[~still] != before[~still]).all())


def test_a_set_records_whether_its_subsets_are_of_images_or_cells(world: World) -> None:
    assert [freezing(world, by, 2)._image_set().by for by in ("images", "cells")] == ["images", "cells"]
    assert world.engine(**ALONE)._image_set().by == "images"


_UNWEIGHTED = Nested(weight=0.0, freeze="none", period=2)


@pytest.mark.parametrize(("begin", "first"), [("code", 0), ("paper", 1)])
def test_first_loops_and_measurements(world: World, begin: str, first: int) -> None:
    rules = {"begin": begin, "period": 2}
    engine = world.engine(ipc=3, outer=5, inner=2, lr=1.0, subsets=Nested(**rules))
    told = spied(engine)
    engine.run()
    sizes = [size for size, *_ in told]
    assert sizes[:2] == [(first,) * 3] * 2 and sizes[2:4] == [(1,) * 3] * 2
    assert [measure for _, _, measure, _ in told] == [loop in (0, 1, 3) for loop in range(5) for _ in range(2)]
    assert all(frozen == (0, 0, 0) for _, frozen, *_ in told[:4])
    # Decided by the change of the mean over steps and classes, in loops 0, 1 and 3.
    means = []
    for loop in (0, 1, 3):
        both = [told[2 * loop + k][3] for k in range(2)]
        means.append(torch.stack([d for d in both if d is not None]).mean((0, 1))[:-1])
    assert engine.subsets is not None
    np.testing.assert_allclose(engine.subsets.measured[:, 0], torch.stack(means).numpy(), rtol=1e-12)
    assert engine.subsets.loops.tolist() == [0, 1, 3]
    second, third = (int((b - a).abs().argmax()) + 1 for a, b in pairwise(means))
    assert sizes[4:8] == [(second,) * 3] * 4 and sizes[8:] == [(third,) * 3] * 2


def test_what_was_chosen_is_handed_over_after_each_decision_and_at_the_end(world: World) -> None:
    nested = Nested(period=2, begin="code", class_wise=True)
    engine = world.engine(ipc=4, outer=7, inner=2, lr=20.0, subsets=nested)
    told = spied(engine)
    engine.run()
    subsets, distances = ([rows for name, rows in world.records if name == kept] for kept in ("subsets", "distances"))
    assert len(subsets) + len(distances) == len(world.records)
    ends = [rows[-1]["loop"] for rows in subsets]
    assert ends == [0, 1, 2, 4, 6, 6]  # the first state, one more by the code, decisions for loops 2, 4 and 6, the end
    assert [rows[-1]["loop"] for rows in distances] == [0, 1, 3, 5, 5], "what was measured before these loops"
    assert engine.subsets is not None and distances[-1] == engine.subsets.distance_rows()
    assert len(distances[-1]) == 4 * 3 * 3, "measurements, classes, candidates"
    for end, rows in zip(ends, subsets, strict=True):
        held = [row for row in rows if row["loop"] == end]
        assert [row["class"] for row in held] == [0, 1, 2]
        sizes, frozen, *_ = told[2 * end]
        assert [row["subset"] for row in held] == list(sizes) and [row["frozen"] for row in held] == list(frozen)
    whole = subsets[-1]
    assert subsets[-2] == whole and len({row["subset"] for row in whole}) > 2
    without = world.engine(outer=2)
    world.records.clear()
    without.run()
    assert world.records == []


def test_distances_are_recorded_where_the_subset_has_no_weight(world: World) -> None:
    """Table 7's control: the images are those of the base method."""
    made = [world.engine(ipc=3, outer=4, inner=2, lr=5.0, subsets=nested) for nested in (None, _UNWEIGHTED)]
    assert np.array_equal(*(engine.run().images for engine in made))
    name, rows = world.records[-1]
    assert name == "distances" and [row["loop"] for row in rows[::2]] == [0, 1, 3]
    assert min(row["distance"] for row in rows) > 0


@pytest.mark.parametrize(
    ("chosen", "previous", "note"),
    [([3, 3, 3], [1, 1, 1], ", subset 3, frozen 1"), ([3, 1, 2], [2, 1, 3], ", subset 1 to 3, frozen 0 to 2")],
)
def test_notes_tell_a_number_or_a_span(world: World, chosen: list[int], previous: list[int], note: str) -> None:
    engine = world.engine(ipc=4, subsets=Nested())
    assert engine.subsets is not None
    engine.subsets = replace(engine.subsets, chosen=np.array(chosen), previous=np.array(previous))
    assert engine._subset_note() == note


def test_every_loop_begins_with_another_network_and_pixels_in_range(world: World) -> None:
    engine = world.engine(outer=2, inner=1, lr=5.0)
    networks, ranges = [], []
    begin = engine._begin_loop

    def listening() -> None:
        begin()
        networks.append(next(engine.network.parameters()).detach().clone())
        ranges.append((float(engine.pixels.min()), float(engine.pixels.max())))
        engine.pixels.add_(3)

    engine._begin_loop = listening  # type: ignore[method-assign]
    engine.run()
    assert not torch.equal(*networks)
    assert all(low >= 0 and high <= 1 for low, high in ranges)
    other = world.engine(seed=1)
    assert not torch.equal(next(other.network.parameters()), networks[0])


def test_loss_falls_on_a_fixed_network(world: World) -> None:
    ten = np.repeat(np.arange(3), 10)
    for match, lr in (("gradients", 0.02), ("features", 1.0)):
        still = World(world.folder, ten)
        engine = still.engine(inner=25, lr=lr, real_batch=10, match=match, sweeps=match == "gradients", **ALONE)
        losses = []
        for step in range(25):
            engine.step = step
            losses.append(float(engine._inner_step()))
        assert losses[-1] < 0.7 * losses[0]
        assert sum(b < a for a, b in pairwise(losses)) >= 22


def test_the_result_is_in_the_order_of_the_start(world: World) -> None:
    start = start_of(3)
    choices = Choices(network=NETWORK, outer=1, inner=1, lr=1e-9, real_batch=4, **ALONE)  # type: ignore[arg-type]
    result = Engine(start, world.context, 0, world.progress, choices).run()
    for name in ("images", "labels", "ids"):
        assert np.array_equal(getattr(result, name), getattr(start, name))
    assert result.grid == 1 and result.classes == start.classes


def test_initial_mix_shows_real_images_in_cells(world: World) -> None:
    engine = world.engine(ipc=2, factor=2, initial="mix")
    for c in range(3):
        own = world.images[world.labels == c][:, ::2, ::2].transpose(0, 3, 1, 2)  # to the nearest: every other pixel
        shown = engine.pixels[c].unflatten(-1, (2, 4)).unflatten(-3, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        found = (shown * 255).round().numpy().astype(np.uint8)
        places = [int(np.flatnonzero((own == cell).all((1, 2, 3)))[0]) for cell in found]
        assert len(set(places)) == 8


def test_noise_is_normal_in_normalised_space(world: World) -> None:
    engine = world.engine(ipc=6, initial="noise", space="normalised")
    z = (engine.pixels - engine.real.mean) / engine.real.std
    assert abs(float(z.mean())) < 0.1 and abs(float(z.std()) - 1) < 0.1


def test_representative_batches_last_for_the_given_number_of_steps(world: World) -> None:
    engine = world.engine(inner=5, cluster=2)
    rows = []
    engine._begin_loop()
    for engine.step in range(5):
        rows.append(engine._real_rows().copy())
        engine._inner_step()
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[2], rows[3])
    assert not np.array_equal(rows[1], rows[2])
    for c in range(3):
        assert (world.labels[rows[4][c]] == c).all()


def refused(what: Callable[[], object], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        what()
    assert str(caught.value) == sentence


def test_refusals(world: World) -> None:
    start = start_of(2)
    uneven = ImageSet(start.images[:5], start.labels[:5], start.ids[:5], start.classes)
    choices = Choices(network=NETWORK, outer=1, inner=1, lr=0.1, real_batch=4)
    refused(
        lambda: Engine(uneven, world.context, 0, world.progress, choices),
        "synthesis: classes have 1 to 2 images; all classes are matched together, so select as many of each",
    )
    refused(
        lambda: world.engine(ipc=4, factor=2, initial="mix"),
        "synthesis: 16 real images per class are needed for the start, but a class has 10; lower ipc",
    )
    refused(
        lambda: world.engine(factor=2),
        "synthesis: initial 'start' needs factor 1, but factor is 2; set initial: mix",
    )
    refused(
        lambda: world.engine(lr=1e38, inner=4).run(),
        "synthesis: pixels became NaN or infinite in outer loop 0; lower lr (1e+38)",
    )
    with pytest.raises(DataError, match="leave no pixel of a side of 8 to the last cell; choose a smaller factor"):
        World(world.folder, np.repeat(np.arange(3), 49)).engine(ipc=1, factor=7, initial="mix")


@pytest.mark.parametrize("match", ["gradients", "features"])
def test_networks_whose_images_depend_on_each_other_are_refused(world: World, match: str) -> None:
    with pytest.raises(DataError) as caught:
        world.engine(network="resnet10-w2", match=match)
    message = str(caught.value)
    assert message.startswith("layer ")
    assert message.endswith(
        "of network 'resnet10-w2' is a BatchNorm2d, by which an image's features depend on its batch; use a network "
        "with group norm such as convnet-d3-w128 or resnet10-ap"
    )


def test_a_factor_that_does_not_divide_the_side_is_padded(world: World) -> None:
    engine = world.engine(ipc=1, factor=3, initial="mix")
    assert engine.run().grid == 3
