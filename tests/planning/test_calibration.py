"""Costs that are measured here: what is timed, that it is brief, and what follows from it."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
import torch
from planned import DIGITS, setting

from dcpipe import selection
from dcpipe.planning.calibration import calibrate, key_of
from dcpipe.planning.forecast import stages_of
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


def test_what_cannot_be_timed_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(*arguments: object, **options: object) -> object:
        raise DataError("not with random numbers")

    given, work = own(), Work("select", 10, name="score", size=16)
    monkeypatch.setitem(selection.SELECTORS, "score", unfit)
    assert calibrate(given.params, 10, [work], CPU, seconds=0.1).seconds(work) is None
