"""Stored costs, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from planned import RESNET, SMALL, look

from dcpipe.config import params, presets
from dcpipe.config.presets.composing import families
from dcpipe.planning import lineup
from dcpipe.planning.costs import Stored, device, devices
from dcpipe.planning.counts import Given, count
from dcpipe.planning.figures import figures
from dcpipe.planning.forecast import forecast, stages_of
from dcpipe.planning.machine import Machine
from dcpipe.planning.stages import Setting
from dcpipe.planning.table import clock
from dcpipe.planning.work import Work
from dcpipe.reports.columns import human
from dcpipe.types import DataError

H100 = Stored(device("h100"), look, 1000)


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Work("forward", 20_000, name="resnet18", size=224), 1.0),
        (Work("forward", 20_000, name="small", size=32), SMALL.flops / RESNET.flops),
        (Work("train", 20_000, steps=40, name="resnet18", size=224), 3.0),
        (Work("train", 20_000, steps=400, name="resnet18", size=224), 10.0),
        (Work("train", 20_000, steps=400, name="small", size=32), 10.0),
        (Work("recover", 20_000, steps=1, name="resnet18", size=224), 6.0),
        (Work("decode", 16_000, size=224), 3.1),
        (Work("decode", 16_000, size=112), 3.1 / 4),
        (Work("encode", 1000, size=224), 1.0),
        (Work("read", 4_000_000_000), 2.0),
        (Work("pack", 1000, name="rpca", size=1000), 3.86),
        (Work("pack", 1000, name="rpca", size=100), 0.386),
        (Work("select", 1_281_167 * 50, name="score", size=512), 8.7 * 60),
    ],
)
def test_seconds(work: Work, seconds: float) -> None:
    assert H100.seconds(work) == pytest.approx(seconds, rel=0.01)


def test_a_codec_that_nobody_timed_has_no_time() -> None:
    assert H100.seconds(Work("pack", 10, name="cur", size=10)) is None


def test_every_device_says_where_its_figures_are_from() -> None:
    for one in devices().values():
        assert any("assumed, not measured" in source for source in one.sources)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DataError, match="no stored figures of device 'tpu'; choose one of h100, or leave --device out"):
        device("tpu")


# Train and test images and classes of the sets of SCORE's presets.
SETS = {
    "imagenet-1k": (1_281_167, 1000, 50_000),
    "tiny-imagenet": (100_000, 200, 10_000),
    "imagenette": (9469, 10, 3925),
    "imagewoof": (9025, 10, 3929),
}


@pytest.mark.parametrize("name", list(families()["score"].rows))
def test_presets_state_the_hours_and_the_peak_of_their_plan(name: str) -> None:
    images, classes, test = SETS[name.rpartition("-")[0]]
    parsed = params.parse(yaml.safe_load(presets.text(name)))
    own = Setting(parsed, count(parsed.images, Path("nowhere"), Given(images, classes, test)))
    plan = forecast(own, stages_of(own), Stored(device("h100"), figures, classes), [1], Machine(None, 2**50, 2**50))
    stated = presets.preset(name).notes["cost"]
    assert isinstance(stated, dict)
    assert stated["time"].startswith(f"estimate, not measured: {clock(plan.total(1))} on one data-centre GPU, of which")
    students = [work for work in lineup.evaluation(own).work if work.kind == "train"]
    assert f"{clock(sum(plan.costs.seconds(work) or 0 for work in students) / 3600)} for the" in stated["time"]
    if "disk" in stated:
        assert f"{human(max(plan.peaks))} at the peak" in stated["disk"]
