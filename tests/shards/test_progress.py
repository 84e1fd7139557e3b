"""Reports of progress go to whoever displays them, and nowhere without one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any

import pytest

from dcpipe.shards import progress
from dcpipe.shards.progress import Step


def test_a_report_reaches_the_innermost_listener_and_nobody_afterwards() -> None:
    outer, inner = list[Any](), list[Any]()
    progress.report("early", 1, 2)
    with progress.reporting_to(outer.append):
        progress.report("one", 1, 2)
        with progress.reporting_to(inner.append):
            progress.report("two", 1, 2, "loss 0.5")
        progress.report("three", 2, 2)
    progress.report("late", 2, 2)
    assert outer == [Step("one", 1, 2), Step("three", 2, 2)] and inner == [Step("two", 1, 2, "loss 0.5")]


def test_reports_of_other_threads_are_heard_too() -> None:
    seen: list[Any] = []
    with progress.reporting_to(seen.append), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda done: progress.report("work", done, 2), [1, 2]))
    assert sorted(seen, key=attrgetter("done")) == [Step("work", 1, 2), Step("work", 2, 2)]


def test_a_failure_ends_the_listening() -> None:
    seen: list[Any] = []
    with pytest.raises(ValueError, match="odd"), progress.reporting_to(seen.append):
        raise ValueError("odd")
    progress.report("late", 1, 1)
    assert seen == []


def test_listeners_that_leave_in_another_order_take_only_themselves_away() -> None:
    """Threads of one worker may run shards side by side."""
    one, two = list[Any](), list[Any]()
    first, second = progress.reporting_to(one.append), progress.reporting_to(two.append)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    progress.report("work", 1, 1)
    second.__exit__(None, None, None)
    assert (one, two) == ([], [Step("work", 1, 1)])


def test_an_epoch_has_its_numbers() -> None:
    seen: list[Step] = []
    with progress.reporting_to(seen.append):
        progress.epoch("student a", {"epoch": 11, "loss": 0.5, "lr": 0.1, "processes": 2}, 100)
        progress.epoch("student a", {"epoch": 12, "batch": 1234, "loss": 0.45678}, 100)
        progress.epoch("student a", {"epoch": 99, "loss": 0.4, "lr": 0.0, "accuracy": 97.5}, 100)
    assert seen == [
        Step("student a", 12, 100, values={"loss": 0.5, "lr": 0.1}, unit="epoch"),
        Step("student a", 12, 100, "batch 1,234, loss 0.457", unit="epoch"),
        Step("student a", 100, 100, values={"loss": 0.4, "lr": 0.0, "accuracy": 97.5}, unit="epoch"),
    ]
