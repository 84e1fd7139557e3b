"""Prefect's page: how many tasks run, the one bar of a stage, the keys of artifacts, and messages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dcpipe.shards.progress import Step
from dcpipe.types import DataError
from flows.running import prefect_page
from flows.running.prefect_page import Prefect


class Submitted:
    """Stands for a task of Prefect in a flow of many threads."""

    pool = ThreadPoolExecutor(8)

    def __init__(self, work: Callable[[int], object], **options: object) -> None:
        self.work = work

    def with_options(self, **options: object) -> Submitted:
        return self

    def submit(self, item: int) -> Future[object]:
        return self.pool.submit(self.work, item)


def test_no_more_tasks_of_prefect_run_at_a_time_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With workers the flow has many threads, and tasks that run in this process must not all use them."""
    monkeypatch.setattr("prefect.tasks.Task", Submitted)
    running, most = list[int](), list[int]()

    def work(item: int) -> int:
        running.append(item)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(item)
        return -item

    reporter = Prefect("images")
    reporter.alive = False
    found = reporter.map(work, list(range(20)), str, retries=0, workers=2, title="parts")
    assert found == [-item for item in range(20)] and max(most) == 2


@pytest.mark.parametrize(
    ("name", "title", "key"),
    [
        ("", "condensed images", "images-condensed"),
        ("", "größe (±)", "images-gr-e"),
        ("teacher convnet", "accuracy convnet", "teacher-convnet-accuracy"),
        ("teacher ConvNet_2", "progress", "teacher-convnet-2-progress"),
    ],
)
def test_keys_are_what_prefect_allows_and_say_nothing_twice(name: str, title: str, key: str) -> None:
    assert Prefect("images", name).key(title) == key


def test_a_failure_to_report_is_told_once_and_reporting_stops(caplog: pytest.LogCaptureFixture) -> None:
    reporter, calls = Prefect("images"), []

    def fail() -> None:
        calls.append(1)
        raise ConnectionError

    reporter._guard(lambda: calls.append(0))
    reporter._guard(fail)
    reporter._guard(fail)
    assert calls == [0, 1]
    assert caplog.messages == ["cannot report to Prefect (ConnectionError); the work continues"]


# --- the one bar of a stage ---


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Share and text of every update of a page."""
    shown: list[tuple[float, str]] = []
    monkeypatch.setattr(Prefect, "_show_progress", lambda self, share, text: shown.append((share, text)))
    monkeypatch.setattr(prefect_page, "PROGRESS_SECONDS", 0.0)
    return shown


def test_many_tasks_are_the_bar_and_what_runs_now_is_its_text(
    bars: list[tuple[float, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect.tasks.Task", Called)
    page = Prefect("evaluation")

    def train(item: int) -> None:
        page.step(Step(f"student {item}", 3, 4, values={"loss": 0.5}, unit="epoch"))

    page.map(train, [1, 2], str, retries=0, workers=1, title="students")
    assert bars == [
        (0.0, "students: 0/2"),
        (0.0, "students: 0/2; student 1: epoch 3/4, loss 0.5"),
        (50.0, "students: 1/2"),
        (50.0, "students: 1/2; student 2: epoch 3/4, loss 0.5"),
        (100.0, "students: 2/2"),
    ]


def test_of_a_single_task_the_bar_shows_what_it_reports(
    bars: list[tuple[float, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect.tasks.Task", Called)
    page = Prefect("teacher")
    page.map(lambda _: page.progress("teacher a", 1, 4), [0], str, retries=0, workers=1, title="train")
    assert bars == [(25.0, "teacher a: 1/4")]


def test_the_page_is_updated_at_intervals_and_at_the_end(
    bars: list[tuple[float, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_page, "PROGRESS_SECONDS", 60.0)
    page = Prefect("teacher")
    for done in range(1, 6):
        page.progress("teacher a", done, 5)
    assert bars == [(20.0, "teacher a: 1/5"), (100.0, "teacher a: 5/5")]


# --- errors and messages ---


class Called(Submitted):
    """Stands for a task of Prefect that is called."""

    def with_options(self, **options: object) -> Called:
        return self

    def __call__(self, item: int) -> object:
        return self.work(item)


@pytest.mark.parametrize(
    "error", [DataError("row 3 is not an image; remove it"), OSError(28, "No space left"), KeyError(1)]
)
def test_an_error_of_a_task_is_raised_as_it_is(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect gets a failed state with the sentence for people, and only of a bug an exception with its traceback."""
    monkeypatch.setattr("prefect.tasks.Task", Called)
    states: list[object] = []

    def fail(item: int) -> None:
        raise error

    call = Called.__call__
    monkeypatch.setattr(Called, "__call__", lambda self, item: states.append(call(self, item)) or states[-1])
    with pytest.raises(type(error)) as raised:
        Prefect("images").map(fail, [1], str, retries=0, workers=1, title="parts")
    assert raised.value is error
    assert [getattr(state, "message", None) for state in states] == (
        [] if isinstance(error, KeyError) else [prefect_page.sentence_of(error)]
    )


def test_what_prefect_writes_is_a_detail_of_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = logging.getLogger("prefect")
    handlers, filters, raising = list(theirs.handlers), logging.getLogger("prefect.task_runs").filters[:], True
    monkeypatch.setattr(theirs, "propagate", theirs.propagate)
    monkeypatch.setattr(logging, "raiseExceptions", raising)
    caplog.set_level(logging.DEBUG, "dcpipe")
    try:
        prefect_page.take_over_logging()
        prefect_page.take_over_logging()
        theirs.warning("Encountered %s", "something")
    finally:
        theirs.handlers[:] = handlers
        logging.getLogger("prefect.task_runs").filters[:] = filters
    ours = [(record.name, record.levelname, record.message) for record in caplog.records]
    assert ours == [("dcpipe.prefect", "DEBUG", "Encountered something")]
