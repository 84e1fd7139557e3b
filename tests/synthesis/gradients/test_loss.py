"""The loss of all classes, its gradient and the distances of subsets are those of a loop over classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matching_scenes import CPU, NETWORK, SIZE
from torch import nn

from dcpipe import networks
from dcpipe.random import Row, philox, uniform
from dcpipe.synthesis.gradients.choices import Choices, Nested
from dcpipe.synthesis.gradients.class_gradients import ClassGradients
from dcpipe.synthesis.gradients.loss import Losses, StepLoss
from dcpipe.types import DataError
from dcpipe.views import siamese

C, N, REAL, SEED, STEP = 3, 3, 4, 5, 11
MEAN, STD = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in ((0.4, 0.5, 0.45), (0.2, 0.25, 0.3)))
IDC: dict[str, Any] = {"distance": "mse", "parameters": "conv"}
DC: dict[str, Any] = {"distance": "cosine", "parameters": "conv+linear"}
DM: dict[str, Any] = {"match": "features"}
AUGMENTED = {"strategy": "color_crop_cutout"}
ONE_OF_ALL = {"strategy": "dsa:color_crop_cutout_flip_scale_rotate"}


def scene_of() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network, condensed images [c, n, 3, s, s] in [0, 1] and normalised real ones [c * b, 3, s, s], in float64."""
    torch.manual_seed(3)
    network = networks.build(NETWORK, C, SIZE).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.rand(C, N, 3, SIZE, SIZE, dtype=torch.float64)
    return network, images, torch.randn(C * REAL, 3, SIZE, SIZE, dtype=torch.float64)


def choices_of(**changed: Any) -> Choices:
    changed.setdefault("initial", "mix")
    return Choices(network=NETWORK, outer=1, inner=1, lr=0.1, **changed)


def found_of(choices: Choices, sizes: list[int], frozen: list[int], measure: bool) -> StepLoss:
    network, images, real = scene_of()
    losses = Losses(choices, C, N, (MEAN, STD), SEED, CPU)
    gradients = None if choices.match == "features" else ClassGradients(network, parameters=choices.parameters)
    return losses.compute(images, real, network, gradients, STEP, np.array(sizes), np.array(frozen), measure)


def distance(name: str, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(ours, theirs, strict=True):
        if name == "mse":
            total = total + ((a - b) ** 2).sum()
        elif name == "l1":
            total = total + (a - b).abs().sum()
        else:
            for row, other in zip(a.flatten(1), b.flatten(1), strict=True):
                total = total + 1 - (row @ other) / (row.norm() * other.norm() + 1e-6)
    return total


def gradient(network: nn.Module, images: torch.Tensor, label: int, least: int) -> list[torch.Tensor]:
    """Of the mean cross-entropy, w.r.t. every weight of at least so many dimensions."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim >= least]
    loss = F.cross_entropy(network(images), torch.full((len(images),), label))
    return list(torch.autograd.grad(loss, weights, create_graph=True))


def crops(images: torch.Tensor, factor: int) -> tuple[list[torch.Tensor], list[int]]:
    """Cell 0 of all images, then cell 1 of all, each enlarged; and which image each came from."""
    side = SIZE // factor
    made, owners = [], []
    for cell in range(factor**2):
        y, x = cell // factor * side, cell % factor * side
        for i, image in enumerate(images):
            part = image[None, :, y : y + side, x : x + side]
            made.append(F.interpolate(part, (SIZE, SIZE), mode="bilinear", align_corners=False)[0])
            owners.append(i)
    return made, owners


def members(owners: list[int], size: int, by: str, factor: int) -> list[int]:
    """Places of the training images in S[size]."""
    return [k for k, owner in enumerate(owners) if (owner < size if by == "images" else k < size * factor**2)]


def slow(choices: Choices, sizes: list[int], frozen: list[int]) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Loss, gradient and distances of all subsets, one class after another."""
    network, images, real = scene_of()
    images.requires_grad_(True)
    nested = choices.subsets or Nested()
    measured = torch.zeros(C, N, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    least = 4 if choices.parameters == "conv" else 2
    for c in range(C):
        made, owners = crops(images[c], choices.factor)
        still = members(owners, frozen[c], nested.by, choices.factor)
        made = [crop.detach() if k in still else crop for k, crop in enumerate(made)]
        both = torch.cat([real[c * REAL : (c + 1) * REAL], (torch.stack(made) - MEAN) / STD])
        if choices.strategy:

            def drawn(d: int, c: int = c) -> np.ndarray:
                return uniform(philox(SEED, STEP, d, np.array([Row.CLASS + c])))

            both = siamese.apply(both, siamese.draw(choices.strategy, drawn))
        theirs, ours = both[:REAL], both[REAL:]
        assert isinstance(network, nn.Sequential)
        features: Callable[[torch.Tensor], torch.Tensor] = network[:-1]

        def apart(
            some: list[int],
            by: str,
            c: int = c,
            theirs: torch.Tensor = theirs,
            ours: torch.Tensor = ours,
            features: Callable[[torch.Tensor], torch.Tensor] = features,
        ) -> torch.Tensor:
            if by == "features":
                return ((features(theirs).mean(0) - features(ours[some]).mean(0)) ** 2).sum()
            goal = [g.detach() for g in gradient(network, theirs, c, least)]
            return distance(choices.distance, gradient(network, ours[some], c, least), goal)

        total = total + apart(list(range(len(made))), choices.match)
        if sizes[c]:
            some = members(owners, sizes[c], nested.by, choices.factor)
            total = total + nested.weight * apart(some, choices.match)
        by = "features" if nested.metric == "feature" else "gradients"
        for size in range(1, N + 1):
            measured[c, size - 1] = apart(members(owners, size, nested.by, choices.factor), by).detach()
    (grad,) = torch.autograd.grad(total, images)
    return float(total.detach()), grad, measured


def compare(found: StepLoss, choices: Choices, sizes: list[int], frozen: list[int]) -> None:
    loss, grad, measured = slow(choices, sizes, frozen)
    assert grad.abs().max() > 1e-5
    torch.testing.assert_close(float(found.loss), loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.grad, grad, rtol=1e-5, atol=1e-6 * float(grad.abs().max()))
    if found.distances is not None:
        torch.testing.assert_close(found.distances, measured, rtol=1e-6, atol=0)


@pytest.mark.parametrize("strategy", [{}, AUGMENTED, ONE_OF_ALL], ids=["plain", "all", "one"])
@pytest.mark.parametrize("method", [IDC, IDC | {"distance": "l1"}, DC, DM], ids=["idc", "l1", "dc", "dm"])
@pytest.mark.parametrize("factor", [1, 2])
def test_loss_without_subsets(method: dict[str, Any], strategy: dict[str, Any], factor: int) -> None:
    choices = choices_of(**method, **strategy, factor=factor)
    found = found_of(choices, [0] * C, [0] * C, measure=False)
    assert found.distances is None and bool((found.moving == 1).all())
    compare(found, choices, [0] * C, [0] * C)


@pytest.mark.parametrize("method", [IDC, DC, DM], ids=["idc", "dc", "dm"])
@pytest.mark.parametrize(("by", "factor"), [("images", 1), ("images", 2), ("cells", 1), ("cells", 2)])
@pytest.mark.parametrize("frozen", [[0, 0, 0], [1, 0, 1]], ids=["free", "frozen"])
@pytest.mark.parametrize("at_once", [None, 2])
def test_loss_with_subsets_of_each_class(
    method: dict[str, Any], by: Any, factor: int, frozen: list[int], at_once: int | None
) -> None:
    nested = Nested(weight=0.7, by=by)
    choices = choices_of(**method, **AUGMENTED, factor=factor, subsets=nested, at_once=at_once)
    compare(found_of(choices, [2, 1, 2], frozen, measure=True), choices, [2, 1, 2], frozen)


def test_a_pass_has_no_more_classes_than_allowed() -> None:
    """Memory is bounded because nothing of one pass is kept in the next."""
    network, images, real = scene_of()
    passes: list[int] = []
    network.register_forward_hook(lambda module, arguments, outputs: passes.append(len(outputs)))
    losses = Losses(choices_of(**DM, at_once=2), C, N, (MEAN, STD), SEED, CPU)
    none = np.zeros(C, dtype=np.int64)
    losses.compute(images, real, network, None, STEP, none, none, False)
    assert passes == [2 * REAL, 2 * N, REAL, N]


@pytest.mark.parametrize(
    ("at_once", "sentence"),
    [
        (
            2,
            "synthesis: matching 2 of 3 classes in one pass needs more memory than the GPU has free; set at_once below "
            "2, for the same result with fewer classes in a pass",
        ),
        (
            1,
            "synthesis: matching 1 of 3 classes in one pass needs more memory than the GPU has free; at_once cannot be "
            "lower, so lower real_batch or most, or choose a smaller network",
        ),
    ],
)
def test_too_little_memory_has_a_remedy(monkeypatch: pytest.MonkeyPatch, at_once: int, sentence: str) -> None:
    def full(*arguments: Any) -> StepLoss:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Losses, "_of_some_classes", full)
    with pytest.raises(DataError) as caught:
        found_of(choices_of(**DM, at_once=at_once), [1, 1, 1], [0] * C, measure=False)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("at_once", [None, 1])
def test_distances_of_gradients(at_once: int | None) -> None:
    for method in (IDC, DC):
        choices = choices_of(**method, factor=2, subsets=Nested(metric="gradient"), at_once=at_once)
        compare(found_of(choices, [1, 1, 1], [0] * C, measure=True), choices, [1, 1, 1], [0] * C)


@pytest.mark.parametrize("by", ["images", "cells"])
def test_frozen_pixels_are_those_of_frozen_training_images(by: Any) -> None:
    found = found_of(choices_of(factor=2, subsets=Nested(by=by)), [2, 2, 2], [1, 0, 1], measure=False)
    expected = torch.ones(C, N, 3, SIZE, SIZE)
    if by == "images":
        expected[[0, 2], 0] = 0
    else:  # the first four: cell 0 of images 0, 1 and 2, and cell 1 of image 0
        expected[[0, 2], :, :, :4, :4] = 0
        expected[[0, 2], 0, :, :4, 4:] = 0
    assert torch.equal(found.moving, expected)
    assert bool((found.grad[expected == 0] == 0).all()) and bool((found.grad[expected == 1] != 0).float().mean() > 0.9)


def test_of_too_many_training_images_a_random_part_is_matched() -> None:
    network, images, real = scene_of()
    losses = Losses(choices_of(factor=2, most=5), C, N, (MEAN, STD), SEED, CPU)
    nothing, seen = np.zeros(C, dtype=np.int64), []
    for step in (0, 1):
        grad = losses.compute(images, real, network, ClassGradients(network), step, nothing, nothing, False).grad
        cells = grad.unflatten(-1, (2, 4)).unflatten(-3, (2, 4)).abs().sum((2, 4, 6))  # [c, n, 2, 2]
        seen.append(cells > 0)
        assert (seen[-1].sum((1, 2, 3)) == 5).all()
    assert not torch.equal(*seen)


def test_a_part_of_the_training_images_would_scramble_subsets() -> None:
    message = (
        "synthesis: 12 training images per class are more than the 11 matched in a step, so subsets would be "
        "incomplete; set most: 12 or more"
    )
    with pytest.raises(DataError) as caught:
        Losses(choices_of(factor=2, most=11, subsets=Nested()), C, N, (MEAN, STD), SEED, CPU)
    assert str(caught.value) == message
    Losses(choices_of(factor=2, most=12, subsets=Nested()), C, N, (MEAN, STD), SEED, CPU)
