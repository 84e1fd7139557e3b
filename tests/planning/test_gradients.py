"""Gradient matching: passes and steps against counted calls of the methods themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matching_scenes import NETWORK, World, start_of
from planned import DIGITS, look, of_kind, setting

from dcpipe import synthesis
from dcpipe.config.options import Options
from dcpipe.planning.counts import Counts
from dcpipe.planning.gradients import METHODS, matching
from dcpipe.synthesis.gradients.loss import Losses
from dcpipe.synthesis.gradients.teaching import Teaching

TINY: dict[str, Any] = {"network": NETWORK, "outer": 2, "inner": 3, "real_batch": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "dc": TINY | {"learn_epochs": 2},
    "dsa": TINY | {"learn_epochs": 2},
    "dm": TINY,
    "idc": TINY | {"learn_images": 10, "early": 1},
    "dream": TINY | {"learn_images": 8, "cluster": 2},
    "mdc": {"base": "idc", "options": TINY | {"learn_images": 8, "factor": 1}, "period": 1},
}


@pytest.mark.parametrize("method", METHODS)
def test_calls_are_counted_as_the_method_makes_them(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched: list[int] = []
    lessons: list[int] = []
    compute, step = Losses.compute, Teaching.step

    def computing(self: Any, images: torch.Tensor, real: torch.Tensor, *others: Any) -> Any:
        matched.append(len(real) + images.shape[0] * min(len(self.owners), self.choices.most))
        return compute(self, images, real, *others)

    def teaching(self: Any, network: Any, optimizer: Any, images: torch.Tensor, *others: Any) -> Any:
        lessons.append(len(images))
        return step(self, network, optimizer, images, *others)

    monkeypatch.setattr(Losses, "compute", computing)
    monkeypatch.setattr(Teaching, "step", teaching)
    world, run = World(tmp_path), synthesis.METHODS[method]
    run(start_of(2), world.context, 0, world.progress, **OPTIONS[method])

    own = setting("digits", Counts(33, 0, 6, 3, 300, "a test"), selection={"method": "random", "ipc": 2, "options": {}})
    resolved = Options.of(run).resolve(OPTIONS[method], method)
    stage = matching(own, method, resolved)
    assert stage.steps == len(matched) + len(lessons)
    looks = 2 * 2 * 33 if method == "dream" else 0
    assert stage.forwards == sum(matched) + sum(lessons) + looks
    assert not stage.spread


def test_loops_follow_the_table_of_the_official_code() -> None:
    own = setting("cifar10-dc-ipc10", DIGITS)
    options = Options.of(synthesis.METHODS["dc"]).resolve(own.params.synthesis.options, "dc")
    stage = matching(own, "dc", options)
    assert of_kind(stage.work, "match")[0].steps == 1000 * 10
    assert of_kind(stage.work, "train")[0].steps == 1000 * 9 * 50  # one batch of 100 images, in 50 epochs


def test_memory_is_that_of_the_classes_in_a_pass_and_training_for_accuracies_is_left_out() -> None:
    run = synthesis.METHODS["mdc"]
    own = setting("digits-mdc", DIGITS)
    given = own.params.synthesis.options
    few = {**given, "options": {**given["options"], "at_once": 2}}
    found = [matching(own, "mdc", Options.of(run).resolve(one, "mdc")) for one in (given, few)]
    assert found[0].device - found[1].device == 8 * (32 + 2 * 10) * look("", 10, 8).outputs
    judged = Options.of(run).resolve({**given, "metric": "accuracy"}, "mdc")
    assert "accuracy" in matching(own, "mdc", judged).omitted and not found[0].omitted
