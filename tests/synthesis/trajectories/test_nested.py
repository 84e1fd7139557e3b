"""MDC on matched trajectories: the gradient is that of both losses, frozen images stay, distances are of means."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matching_scenes import NETWORK, World, start_of

from dcpipe import networks
from dcpipe.synthesis import METHODS
from dcpipe.synthesis.gradients.choices import Nested
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.trajectories import unrolling
from dcpipe.synthesis.trajectories.nested import Nest
from dcpipe.synthesis.trajectories.unrolling import Gradients, Student
from dcpipe.types import DataError

TINY: dict[str, Any] = {
    **{"network": NETWORK, "iterations": 3, "steps": 3, "span": 1, "start_below": 2, "lr": 300.0, "rate": 0.05},
    **{"lr_rate": 1e-3, "experts": 2, "expert_epochs": 2, "expert_lr": 0.05, "expert_batch": 16},
}


def test_the_sum_of_gradients_is_that_of_both_losses_by_central_differences() -> None:
    """Float64: L(S[3]) + 0.7 L(S[1]) on the same segment, along random ways of the images and in the step size."""
    torch.manual_seed(0)
    student = Student(networks.build("convnet-d1-w4", 3, 8).double())
    start = student.flat()
    target, images = start + 0.3 * torch.randn_like(start), torch.randn(9, 3, 8, 8, dtype=torch.float64)
    labels, ranks = torch.arange(9) % 3, torch.arange(9) // 3
    parts = [torch.arange(9), torch.nonzero(ranks < 1).flatten()]

    def found(pixels: torch.Tensor, rate: float) -> Gradients:
        leaf = pixels.clone().requires_grad_(True)

        def batches(rows: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            return leaf[rows] * (1 + 0.1 * step), labels[rows]

        of = [unrolling.gradients(student, start, target, partial(batches, rows), 3, rate, [leaf]) for rows in parts]
        return of[0].plus(of[1], 0.7)

    whole, h, way = found(images, 0.3), 1e-5, torch.randn_like(images)
    ends = [float(found(images + d * way, 0.3).loss) for d in (h, -h)]
    assert float((whole.leaves[0] * way).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)
    ends = [float(found(images, 0.3 + d).loss) for d in (h, -h)]
    assert float(whole.rate) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_distances_are_those_of_mean_features(tmp_path: Path) -> None:
    real = RealImages(World(tmp_path).context, 3, 0, 1)
    student, start = Student(networks.build(NETWORK, 3, 8)), start_of(3)
    nest = Nest(Nested(period=2, class_wise=True), start)
    weights = Student(networks.build(NETWORK, 3, 8)).flat()
    pixels = torch.randn(9, 3, 8, 8)
    nest.measure(0, student, weights, pixels, real)
    student.set(weights)
    network = student.network
    for label, rows in enumerate(real.classes):
        goal = networks.forward(network, real.take(rows))[0].double().mean(0)
        mine = networks.forward(network, pixels[start.labels == label])[0].double()
        for n in (1, 2):
            wanted = float((mine[:n].mean(0) - goal).square().sum())
            assert nest.subsets.measured[0, label, n - 1] == pytest.approx(wanted, rel=1e-5)
    nest.measure(2, student, weights, pixels, real)  # the period is 2: iterations 1, 3, ... measure
    assert nest.subsets.loops.tolist() == [0]


def test_subsets_are_the_first_images_of_each_class_and_frozen_ones_do_not_move() -> None:
    start = start_of(3)
    nest = Nest(Nested(), start)
    state = replace(nest.subsets, chosen=np.array([2, 1, 2]), previous=np.array([1, 0, 0]))
    nest.subsets = state
    rows = nest.rows(0)
    assert rows is not None
    assert sorted((int(start.labels[row]), int(start.ranks[row])) for row in rows) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 0),
        (2, 1),
    ]
    still = [(int(start.labels[row]), int(start.ranks[row])) for row in np.flatnonzero(~nest.moving(0).numpy())]
    assert still == [(0, 0)]
    assert Nest(Nested(begin="code"), start).rows(0) is None


def test_mdc_on_it_is_its_own_option_and_weight_0_is_the_method_alone(tmp_path: Path) -> None:
    def run(name: str, method: str, **options: Any) -> np.ndarray:
        world = World(tmp_path / name)
        images = METHODS[method](start_of(3), world.context, 0, world.progress, **options).images
        assert (dict(world.records).keys() >= {"subsets", "distances"}) == (name != "alone")
        return images

    alone = run("alone", "mtt", **TINY)
    nested = run("own", "mtt", **TINY, subsets={"period": 1})
    assert np.array_equal(nested, run("mdc", "mdc", base="mtt", options=TINY, period=1))
    assert not np.array_equal(nested, alone)
    assert np.array_equal(run("zero", "mdc", base="mtt", options=TINY, weight=0.0, freeze="none"), alone)


def test_a_single_image_has_no_subset(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(DataError, match="ipc must be at least 2"):
        METHODS["mdc"](start_of(1), world.context, 0, world.progress, base="mtt", options=TINY)
    assert not list(tmp_path.rglob("*.safetensors"))
