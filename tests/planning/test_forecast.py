"""Hours for several numbers of devices, the bottleneck, and what the hours leave out."""

from __future__ import annotations

import pytest
from planned import DIGITS, Flat, setting

from dcpipe.config import presets
from dcpipe.planning.counts import Counts
from dcpipe.planning.forecast import Forecast, forecast, stages_of
from dcpipe.planning.machine import Machine
from dcpipe.planning.work import Stage, Work
from dcpipe.types import DataError

ROOMY = Machine(None, 2**40, 2**40)
STAGES = (
    Stage("images", (Work("decode", 7200, 10),), 0, 0, 0, spread="parts"),
    Stage("selection", (Work("select", 3600),), 0, 0, 0),
)


def planned(*devices: int, costs: Flat | None = None) -> Forecast:
    return forecast(setting("digits", DIGITS), STAGES, costs or Flat(), devices, ROOMY)


def test_only_what_is_divided_gets_faster() -> None:
    plan = planned(1, 4)
    assert [plan.hours(stage, 1) for stage in STAGES] == [2.0, 1.0]
    assert [plan.hours(stage, 4) for stage in STAGES] == [pytest.approx(0.6), 1.0]  # 3 of 10 parts
    assert (plan.total(1), plan.total(4)) == (3.0, pytest.approx(1.6))
    assert (plan.bottleneck(1).name, plan.bottleneck(4).name) == ("images", "selection")


def test_every_stage_of_the_pipeline_is_there_in_its_order() -> None:
    names = [stage.name for stage in stages_of(setting("digits", DIGITS))]
    assert names == [
        *("images", "teacher@convnet", "teacher@resnet", "features", "selection"),
        *("synthesis", "softlabels", "compression", "evaluation", "release"),
    ]


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_can_be_planned(name: str) -> None:
    classes = int(presets.preset(name).facts["classes"] or 0)
    own = setting(name, Counts(classes * 500, classes * 10, classes * 50, classes, 3000, "a test"))
    plan = forecast(own, stages_of(own), Flat(1e-3), [1, 8], ROOMY)
    left_out = ["synthesis: the trainings of MDC's metric accuracy"] if "mdc-accuracy" in name else []
    assert [*plan.unknown] == left_out and 0 < plan.total(8) <= plan.total(1)
    trained = any(stage.steps for stage in plan.stages if stage.name.startswith("teacher"))
    assert trained == (own.params.teacher.training.epochs > 0)
    assert all(stage.n_bytes > 0 and stage.files > 0 and stage.host > 0 for stage in plan.stages)


def test_numbers_of_devices_are_distinct_and_at_least_one() -> None:
    assert planned(8, 1, 8).devices == (8, 1)
    with pytest.raises(DataError, match="--devices has 0; give numbers of 1 or more"):
        planned(1, 0)


def test_what_nobody_timed_is_named_once() -> None:
    stages = (
        Stage("compression", (Work("pack", 5, name="cur"), Work("pack", 6, name="cur")), 0, 0, 0),
        Stage("synthesis", (), 0, 0, 0, omitted="a method"),
    )
    plan = forecast(setting("digits", DIGITS), stages, Flat(packs=False), [1], ROOMY)
    assert plan.unknown == ["compression: pack of cur", "synthesis: a method"]
    assert plan.total(1) == 0
