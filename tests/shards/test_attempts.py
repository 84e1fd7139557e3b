"""What is tried again, how often, and what the error that is raised at last says."""

from __future__ import annotations

import pytest

from dcpipe.shards import attempt, attempts
from dcpipe.types import DataError


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses before a second try, not slept through."""
    taken: list[float] = []
    monkeypatch.setattr(attempts.time, "sleep", taken.append)
    return taken


def test_errors_of_the_outside_world_are_tried_again(naps: list[float], caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def work(item: int) -> int:
        tries.append(item)
        if len(tries) <= 2:
            raise OSError("the share is away")
        return -item

    assert attempt(work, 7, "part[7]", 2) == -7
    assert tries == [7, 7, 7] and naps == [1.0, 1.0]
    assert caplog.messages == ["task part[7]: the share is away; trying again"] * 2


@pytest.mark.parametrize(
    ("error", "tries"), [(OSError("away"), 3), (DataError("bad row"), 1), (ValueError("odd"), 1), (MemoryError(), 1)]
)
def test_what_fails_for_good_is_raised_and_names_its_task(error: Exception, tries: int, naps: list[float]) -> None:
    """Bad data stays bad: only the outside world deserves patience."""
    calls: list[int] = []

    def work(item: int) -> None:
        calls.append(item)
        raise error

    with pytest.raises(type(error)) as raised:
        attempt(work, 7, "part[7]", 2)
    assert raised.value is error and error.__notes__ == ["in task part[7]"]
    assert len(calls) == tries and len(naps) == tries - 1


def test_an_error_of_a_worker_names_its_task_once() -> None:
    """It was noted there, and here it passes through again."""
    error = DataError("bad row")
    error.add_note("in task part[7]")

    def work(item: int) -> None:
        raise error

    with pytest.raises(DataError):
        attempt(work, 7, "part[7]", 0)
    assert error.__notes__ == ["in task part[7]"]


def test_without_retries_a_task_has_one_try(naps: list[float]) -> None:
    def work(item: int) -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        attempt(work, 7, "part[7]", 0)
    assert naps == []


def test_an_interrupt_is_no_error_of_the_task() -> None:
    def work(item: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        attempt(work, 7, "part[7]", 2)
    assert not hasattr(raised.value, "__notes__")
