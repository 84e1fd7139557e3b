"""What a person sees of long work: loss, accuracy and the time left, in a pipe and in a terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import pytest
from rich.console import Console

from dcpipe import logs
from dcpipe.shards.progress import Step
from flows.running import display
from flows.running.display import Display, duration

LOG = logs.logger("flows.evaluation")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The messages of a level so far."""
    caplog.set_level(logging.DEBUG, "dcpipe")
    return lambda level: [record.message for record in caplog.records if record.levelname == level]


def epoch(done: int, total: int, **values: float) -> Step:
    return Step("student score, rpca 0", done, total, values=values, unit="epoch")


def test_a_pipe_gets_a_line_every_ten_seconds_and_one_at_the_end(
    clock: list[float], told: Callable[[str], list[str]]
) -> None:
    shown = Display(LOG)
    shown.show(Step("student score, rpca 0", 0, 10))
    for done in range(1, 10):
        clock[0] += 4
        shown.show(epoch(done, 10, loss=0.53123, lr=0.1))
    clock[0] += 4
    shown.show(epoch(10, 10, loss=0.5, lr=0.0, accuracy=97.123))
    assert told("INFO") == [
        "student score, rpca 0: epoch 3/10, loss 0.531, 28 s left",
        "student score, rpca 0: epoch 6/10, loss 0.531, 16 s left",
        "student score, rpca 0: epoch 9/10, loss 0.531, 4.0 s left",
        "student score, rpca 0: epoch 10/10, loss 0.5, accuracy 97.1 %, in 40 s",
    ]
    assert told("DEBUG")[:2] == [f"student score, rpca 0: epoch {done}/10, loss 0.531" for done in (1, 2)]


def test_short_work_without_numbers_says_nothing(clock: list[float], told: Callable[[str], list[str]]) -> None:
    shown = Display(LOG)
    for done in range(4):
        shown.show(Step("images", done, 3))
    assert told("INFO") == []


def test_the_time_left_is_that_of_this_run(clock: list[float], told: Callable[[str], list[str]]) -> None:
    """A training that goes on from a checkpoint has done its first epochs earlier."""
    shown = Display(LOG)
    shown.show(Step("student score, rpca 0", 0, 100))
    clock[0] += 20
    shown.show(epoch(91, 100, loss=0.5))
    assert told("INFO") == ["student score, rpca 0: epoch 91/100, loss 0.5, 3 min left"]


def test_notes_and_work_side_by_side(clock: list[float], told: Callable[[str], list[str]]) -> None:
    shown = Display(LOG)
    shown.show(Step("batch 1 of 2", 1, 3, "loss 2"))
    shown.show(Step("batch 2 of 2", 1, 3, "loss 4"))
    clock[0] += 11
    shown.show(Step("batch 1 of 2", 2, 3, "loss 1"))
    shown.show(Step("batch 2 of 2", 2, 3, "loss 3"))
    clock[0] += 11
    shown.show(Step("batch 1 of 2", 3, 3))
    shown.show(Step("batch 2 of 2", 3, 3))
    assert told("INFO") == ["batch 1 of 2: 2/3, loss 1, 11 s left", "batch 1 of 2: 3/3, in 22 s"]


@pytest.mark.parametrize(("level", "drawn"), [(logging.INFO, True), (logging.WARNING, False)])
def test_a_terminal_has_a_bar_with_the_numbers_unless_it_is_to_be_quiet(
    level: int, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(display, "Console", lambda stderr: terminal)
    with logs.shown("evaluation") as handler:
        handler.setLevel(level)
        shown = Display(LOG)
        shown.show(epoch(3, 10, loss=0.5))
        if shown.bars is not None:
            shown.bars.refresh()
        during = screen.getvalue()
        shown.show(epoch(10, 10, loss=0.25))
        shown.show(Step("at once", 1, 1))
        left = [] if shown.bars is None else shown.bars.tasks
        shown.close()
    assert ("student score, rpca 0: epoch" in during and "3/10" in during and "loss 0.5" in during) == drawn
    assert left == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (40.4, "40 s"), (600, "10 min"), (12600, "3.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
