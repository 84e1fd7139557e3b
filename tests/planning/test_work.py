"""Work: how it is divided over devices, and what a stage counts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dcpipe.planning.work import Stage, Work, batches, passes


@given(units=st.integers(1, 200), devices=st.integers(1, 40))
def test_the_busiest_device_has_its_share_when_units_are_dealt_in_turn(units: int, devices: int) -> None:
    dealt = [0] * devices
    for unit in range(units):
        dealt[unit % devices] += 1
    work = Work("train", 7 * units, units, steps=3 * units)
    assert work.on(devices) == replace(work, amount=7 * max(dealt), steps=3 * max(dealt))
    together = replace(work, shared=True)
    assert together.on(devices) == replace(together, amount=7 * max(dealt)), "every device takes every step"


def test_a_stage_counts_passes_of_all_kinds_and_steps() -> None:
    work = (
        Work("forward", 5),
        Work("train", 7, steps=2),
        Work("recover", 11, steps=3),
        Work("match", 13, steps=4),
        Work("decode", 1000),
    )
    stage = Stage("a", work, 0, 0, 0)
    assert (stage.forwards, stage.steps, passes(work[:2])) == (36, 9, 12)


@given(n=st.integers(0, 1000), size=st.integers(1, 50))
def test_batches_are_counted_as_they_are_made(n: int, size: int) -> None:
    assert batches(n, size) == len(range(0, n, size))
