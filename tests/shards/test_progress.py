"""Reports of progress go to whoever displays them, and nowhere without one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dcpipe.shards import progress


def test_a_report_reaches_the_innermost_listener_and_nobody_afterwards() -> None:
    outer, inner = list[Any](), list[Any]()
    progress.report("early", 1, 2)
    with progress.reporting_to(lambda *report: outer.append(report)):
        progress.report("one", 1, 2)
        with progress.reporting_to(lambda *report: inner.append(report)):
            progress.report("two", 1, 2, "loss 0.5")
        progress.report("three", 2, 2)
    progress.report("late", 2, 2)
    assert outer == [("one", 1, 2, ""), ("three", 2, 2, "")] and inner == [("two", 1, 2, "loss 0.5")]


def test_reports_of_other_threads_are_heard_too() -> None:
    seen: list[Any] = []
    with progress.reporting_to(lambda *report: seen.append(report)), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda done: progress.report("work", done, 2), [1, 2]))
    assert sorted(seen) == [("work", 1, 2, ""), ("work", 2, 2, "")]


def test_a_failure_ends_the_listening() -> None:
    seen: list[Any] = []
    with pytest.raises(ValueError, match="odd"), progress.reporting_to(lambda *report: seen.append(report)):
        raise ValueError("odd")
    progress.report("late", 1, 1)
    assert seen == []


def test_listeners_that_leave_in_another_order_take_only_themselves_away() -> None:
    """Threads of one worker may run shards side by side."""
    one, two = list[Any](), list[Any]()
    first = progress.reporting_to(lambda *report: one.append(report))
    second = progress.reporting_to(lambda *report: two.append(report))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    progress.report("work", 1, 1)
    second.__exit__(None, None, None)
    assert (one, two) == ([], [("work", 1, 1, "")])
