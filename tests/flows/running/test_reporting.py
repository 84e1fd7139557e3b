"""Tasks without a server: their order, their retries, what is raised, and what a person sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from dcpipe.shards import attempts
from dcpipe.types import DataError
from flows.running.reporting import Plain


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses before a second try, not slept through."""
    taken: list[float] = []
    monkeypatch.setattr(attempts.time, "sleep", taken.append)
    return taken


def plain_map(work: Callable[[int], object], items: list[int], *, retries: int = 0, workers: int = 1) -> list[object]:
    return Plain("images").map(work, items, lambda i: f"part[{i}]", retries=retries, workers=workers, title="parts")


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_items(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)  # the first ends last
        return item * item

    assert plain_map(work, list(range(6)), workers=workers) == [0, 1, 4, 9, 16, 25]
    assert plain_map(work, [], workers=workers) == []


def test_one_worker_keeps_the_order_of_work_and_several_share_it() -> None:
    done: list[int] = []
    plain_map(done.append, list(range(20)))
    assert done == list(range(20))
    both = threading.Barrier(2, timeout=10)
    plain_map(lambda _: both.wait(), [0, 1], workers=2)  # breaks unless two run at a time


def test_errors_of_the_outside_world_are_tried_again(naps: list[float], caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def work(item: int) -> int:
        tries.append(item)
        if tries.count(item) <= 2 and item == 1:
            raise OSError("the share is away")
        return item

    assert plain_map(work, [0, 1, 2], retries=2) == [0, 1, 2]
    assert tries == [0, 1, 1, 1, 2] and naps == [1.0, 1.0]
    assert caplog.messages == ["task part[1]: the share is away; trying again"] * 2


def test_the_first_failure_in_the_order_of_items_is_raised_and_what_waits_is_dropped() -> None:
    started: list[int] = []
    second_failed = threading.Event()

    def work(item: int) -> None:
        started.append(item)
        if item == 0:
            second_failed.wait(10)
        if item == 1:
            second_failed.set()
        if item < 2:
            raise DataError(f"row {item}")
        time.sleep(0.05)

    with pytest.raises(DataError, match=r"^row 0\nin task part\[0\]$"):
        plain_map(work, list(range(100)), workers=2)
    assert {0, 1} <= set(started) and len(started) < 50


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_nothing_is_begun_after_a_failure(error: BaseException) -> None:
    """Again and again, because a worker that takes the next item at once is only sometimes quicker."""

    def fail(item: int) -> None:
        begun.append(item)
        raise error

    for _ in range(100):
        begun: list[int] = []
        with pytest.raises(type(error)):
            Plain("teacher").map(fail, range(10), str, retries=0, workers=1, title="work")
        assert begun == [0]


def test_what_only_a_page_can_show_is_left_out_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Plain("images")
    reporter.table("rows", [{"a": 1}])
    reporter.image("picture", b"")
    reporter.markdown("text", "words")
    assert capsys.readouterr() == ("", "")
