"""Trajectory matching: passes and steps against counted calls of the method itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matching_scenes import NETWORK, World, start_of
from planned import look, setting

from dcpipe import synthesis
from dcpipe.config.options import Options
from dcpipe.planning.counts import Counts
from dcpipe.planning.recovery import synthesis as plan_synthesis
from dcpipe.planning.trajectories import trajectories
from dcpipe.synthesis.trajectories.unrolling import Student

TINY: dict[str, Any] = {
    **{"network": NETWORK, "iterations": 2, "steps": 5, "span": 1, "start_below": 2, "batch": 4},
    **{"experts": 2, "expert_epochs": 2, "expert_batch": 16},
}


@pytest.mark.parametrize("through", ["exact", "unrolled", "tesla"])
def test_calls_are_counted_as_the_method_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    calls: list[int] = []
    loss = Student.loss

    def counting(self: Student, weights: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return loss(self, weights, images, labels)

    monkeypatch.setattr(Student, "loss", counting)
    world, run = World(tmp_path), synthesis.METHODS["mtt"]
    options = TINY | {"through": through}
    run(start_of(2), world.context, 0, world.progress, **options)
    own = setting("digits", Counts(33, 0, 6, 3, 300, "a test"), selection={"method": "random", "ipc": 2, "options": {}})
    stage = trajectories(own, Options.of(run).resolve(options, "mtt"))
    assert stage.steps == len(calls) + 2 * 2 * 3
    assert stage.forwards == sum(calls) + 2 * 2 * 33 + 2 * 33  # training of experts, and their accuracies
    assert not stage.spread and not stage.omitted
    learned = trajectories(own, Options.of(run).resolve(options | {"lr_labels": 1.0, "initial": "predicted"}, "mtt"))
    assert learned.forwards - stage.forwards == 2 * 6 + 33 and learned.n_bytes - stage.n_bytes == 4 * 6 * 3
    more = trajectories(own, Options.of(run).resolve(options | {"experts": 3}, "mtt"))
    white, d = trajectories(own, Options.of(run).resolve(options | {"whitening": 0.1}, "mtt")), 3 * 8**2
    assert white.n_bytes - stage.n_bytes == 4 * (d * (d + 1) // 2 + d) and white.scratch - stage.scratch == 8 * d**2
    assert white.device - stage.device == 32 * d**2
    flat = trajectories(own, Options.of(run).resolve(options | {"expert_rho": 0.01}, "mtt"))
    assert (flat.steps - stage.steps, flat.forwards - stage.forwards) == (2 * 2 * 3, 2 * 2 * 33)  # twice for experts
    assert more.scratch - stage.scratch == 3 * look("", 3, 8).weights  # rows of one expert


def test_mdc_on_it_takes_the_steps_twice() -> None:
    mtt, mdc = synthesis.METHODS["mtt"], synthesis.METHODS["mdc"]
    own = setting("digits", Counts(33, 0, 6, 3, 300, "a test"), selection={"method": "random", "ipc": 2, "options": {}})
    alone = trajectories(own, Options.of(mtt).resolve(TINY, "mtt"))
    both = setting(
        "digits",
        Counts(33, 0, 6, 3, 300, "a test"),
        selection={"method": "random", "ipc": 2, "options": {}},
        synthesis={"method": "mdc", "options": {"base": "mtt", "options": TINY}},
    )
    nested = plan_synthesis(both)
    experts = 2 * 2 * 3
    assert nested.steps - experts == 2 * (alone.steps - experts)
    assert Options.of(mdc).resolve({"base": "mtt", "options": TINY}, "mdc")["options"]["steps"] == TINY["steps"]
