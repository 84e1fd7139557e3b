"""Costs that are measured here: what is timed, that it is brief, and what follows from it."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
import torch
from planned import DIGITS, setting

from dcpipe import networks, selection
from dcpipe.planning.calibration import calibrate, key_of
from dcpipe.planning.forecast import stages_of
from dcpipe.planning.lineup import evaluation
from dcpipe.planning.stages import Setting
from dcpipe.planning.work import Work
from dcpipe.types import DataError

CPU = torch.device("cpu")


def own(**blocks: dict[str, object]) -> Setting:
    return setting("digits", DIGITS, **blocks)


def test_all_work_of_a_plan_is_timed_and_briefly() -> None:
    given = own()
    work = [work for stage in stages_of(given) for work in stage.work]
    begun = time.process_time()
    measured = calibrate(given.params, 10, work, CPU, seconds=0.5)
    assert time.process_time() - begun < 10
    assert all((measured.seconds(one) or 0) > 0 for one in work if one.amount)
    assert len(measured.each) == len({key_of(one) for one in work if one.amount}) < len(work)
    assert "measured on this machine" in measured.sources[0]


def test_a_unit_is_a_call_divided_by_what_is_in_it() -> None:
    """With a clock that takes a second for each look, every call seems to take one."""
    given, ticks = own(), itertools.count()
    works = [
        Work("decode", 1, size=8),
        Work("encode", 1, size=8),
        Work("read", 1),
        Work("select", 1, name="score", size=16),
        Work("forward", 1, name="convnet-d2-w8", size=8, batch=4),
        Work("train", 1, steps=1, name="convnet-d2-w8", size=8, batch=4),
    ]
    measured = calibrate(given.params, 10, works, CPU, seconds=1.0, now=lambda: float(next(ticks)))
    decode, encode, read, select, forward, train = (measured.seconds(work) for work in works)
    assert (decode, encode, read) == (1 / 8, 1.0, 2.0**-25)
    assert select == 1 / (800 * 4)
    assert forward == train == 1 / 4, "a batch of four, though there is no time for more"


def test_an_image_of_recovery_counts_as_two_of_training() -> None:
    work = Work("train", 100, steps=1, name="convnet-d2-w8", size=8, batch=4)
    measured = calibrate(own().params, 10, [work], CPU, seconds=0.1)
    trained, recovered = measured.seconds(work), measured.seconds(replace(work, kind="recover"))
    assert trained is not None and recovered == pytest.approx(2 * trained)
    assert measured.seconds(replace(work, amount=200)) == pytest.approx(2 * trained)
    assert measured.seconds(replace(work, kind="decode", amount=0)) == 0


def test_passes_run_in_the_precision_that_params_yaml_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor, bfloat16 has to be asked for, so what is computed in it tells which key was read."""
    runs: list[tuple[bool, torch.dtype]] = []

    class Watched(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found = super().forward(inputs.mean((2, 3)))
            runs.append((self.training, found.dtype))
            return found

    monkeypatch.setattr(networks, "build", lambda *arguments: Watched(3, 10))
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32), ("auto", torch.float32)):
        given = own(evaluation={"precision": precision})
        work = [one for one in evaluation(given).work if one.kind == "train"][:1]
        runs.clear()
        calibrate(given.params, 10, work, CPU, seconds=0.01)
        assert set(runs) == {(True, dtype)}
    apart = Work("train", 1, steps=1, name="convnet-d2-w8", size=8, batch=4)
    assert key_of(apart) != key_of(replace(apart, precision="bfloat16"))


def test_stages_name_their_precision() -> None:
    networks_of = {"resnet": {"network": "resnet10-w4"}}
    training = {"epochs": 2, "precision": "bfloat16"}
    edc = {"method": "edc", "options": {"precision": "bfloat16"}}
    found = {stage.name: stage.work for stage in stages_of(own(synthesis=edc))}
    assert {one.precision for one in found["synthesis"] if one.kind == "recover"} == {"bfloat16"}
    assert {one.precision for one in found["softlabels"] if one.kind == "forward"} == {"float32"}
    assert {one.precision for one in found["evaluation"] if one.kind == "train"} == {"auto"}
    given = own(
        teacher={"networks": networks_of, "training": training},
        features={"teacher": "resnet", "precision": "bfloat16"},
        softlabels={"teachers": ["resnet"]},
    )
    found = {stage.name: stage.work for stage in stages_of(given)}
    assert {one.precision for one in found["teacher@resnet"] if one.kind == "train"} == {"bfloat16"}
    vectors, rate = [one.precision for one in found["features"] if one.kind == "forward"]
    assert (vectors, rate) == ("bfloat16", "float32")


def test_what_cannot_be_timed_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(*arguments: object, **options: object) -> object:
        raise DataError("not with random numbers")

    given, work = own(), Work("select", 10, name="score", size=16)
    monkeypatch.setitem(selection.SELECTORS, "score", unfit)
    assert calibrate(given.params, 10, [work], CPU, seconds=0.1).seconds(work) is None
