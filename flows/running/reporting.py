"""Two ways to run tasks and report on them: in the terminal, or through Prefect. Both give the same results."""

from __future__ import annotations

import base64
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore, Event
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dcpipe.shards import attempt

Item = TypeVar("Item")
Result = TypeVar("Result")
Row = Mapping[str, Any]

THREADS = 4  # tasks of a flow at a time, where a stage asks for more than one


class ServerError(Exception):
    """Prefect failed, not the work."""


class Reporter(ABC):
    """Abstract base of `Plain` and `Prefect`."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    @property
    @abstractmethod
    def watched(self) -> bool:
        """Whether pictures are displayed anywhere; if not, none need be drawn."""

    @abstractmethod
    def map(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        label: Callable[[Item], str],
        *,
        retries: int,
        workers: int,
        title: str,
    ) -> list[Result]:
        """Run one task per item, `workers` at a time, and return the results in the order of the items."""

    @abstractmethod
    def progress(self, title: str, done: int, total: int, note: str = "") -> None:
        """Report the progress of a long task; cheap enough to be called often."""

    @abstractmethod
    def table(self, title: str, rows: Sequence[Row]) -> None:
        """Display a table."""

    @abstractmethod
    def image(self, title: str, png: bytes) -> None:
        """Display a picture."""

    @abstractmethod
    def markdown(self, title: str, text: str) -> None:
        """Display a Markdown text."""


class Plain(Reporter):
    """Without a server: tasks are function calls; progress is a bar in a terminal, else a line every ten seconds."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.console = Console(stderr=True)
        self.last = 0.0

    @property
    def watched(self) -> bool:
        return False

    def map(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        label: Callable[[Item], str],
        *,
        retries: int,
        workers: int,
        title: str,
    ) -> list[Result]:
        results: list[Result] = []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        failed = Event()

        def task(item: Item) -> Result:
            """Nothing is begun after a failure, however quickly a worker takes the next item."""
            if failed.is_set():
                raise CancelledError
            try:
                return attempt(work, item, label(item), retries)
            except BaseException:
                failed.set()
                raise

        pool, wait = ThreadPoolExecutor(max_workers=workers), True
        hidden = not self.console.is_terminal
        try:
            with Progress(*columns, console=self.console, transient=True, disable=hidden) as bar:
                shown = bar.add_task(title, total=len(items))
                futures = [pool.submit(task, item) for item in items]
                for future in futures:
                    results.append(future.result())
                    bar.advance(shown)
        except KeyboardInterrupt:
            wait = False  # a running task may take hours
            raise
        finally:
            pool.shutdown(wait, cancel_futures=True)
        return results

    def progress(self, title: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self.last > 10 and done < total:
            self.last = now
            print(f"{title}: {done}/{total} {note}".rstrip(), file=sys.stderr)

    def table(self, title: str, rows: Sequence[Row]) -> None:
        pass  # the same rows are in the artifact, and `dcpipe status` prints them

    def image(self, title: str, png: bytes) -> None:
        pass

    def markdown(self, title: str, text: str) -> None:
        pass


class Prefect(Reporter):
    """Runs tasks as Prefect tasks, with live artifacts. Failing to report must not stop the work: the first failure is
    printed, and nothing more is reported."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.alive, self.threads = True, THREADS
        self.artifacts: dict[str, Any] = {}
        self.shown: dict[str, float] = {}

    @property
    def watched(self) -> bool:
        return self.alive

    def run_flow(self, flow: Any, name: str, parameters: Mapping[str, Any]) -> None:
        """Run the flow of the stage, with at most `threads` tasks at a time; its exceptions are raised here."""
        from prefect.task_runners import ThreadPoolTaskRunner

        def print_state(flow: Any, flow_run: Any, state: Any) -> None:
            """Prefect passes these arguments by name."""
            print(f"flow {flow_run.name}: {state.name}: {state.message}", file=sys.stderr)

        hooks = {"on_failure": [print_state], "on_crashed": [print_state], "on_cancellation": [print_state]}
        runner: Any = ThreadPoolTaskRunner(max_workers=self.threads)
        flow.with_options(flow_run_name=name, task_runner=runner, **hooks)(**parameters)

    def map(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        label: Callable[[Item], str],
        *,
        retries: int,
        workers: int,
        title: str,
    ) -> list[Result]:
        from prefect.cache_policies import NO_CACHE
        from prefect.tasks import Task

        def may_help(task: Any, task_run: Any, state: Any) -> bool:
            """Only an `OSError` is worth a second try."""
            return isinstance(state.result(raise_on_failure=False), OSError)

        def print_state(task: Any, task_run: Any, state: Any) -> None:
            """Prefect passes these arguments by name."""
            print(f"task {task_run.name}: {state.message}", file=sys.stderr)

        failures, places = list[BaseException](), BoundedSemaphore(workers)  # the flow may have more threads

        def tracked(item: Item) -> Result:
            try:
                with places:
                    return work(item)
            except BaseException as error:
                failures.append(error)
                raise

        shown: Task[[Item], Result] = Task(
            tracked,
            name=title,
            retries=retries,
            retry_delay_seconds=1,
            retry_condition_fn=may_help,
            on_failure=[print_state],
            # Only DVC decides what is stale: a cached result would skip work whose output DVC has removed.
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        named = [shown.with_options(task_run_name=label(item)) for item in items]
        pairs = list(zip(named, items, strict=True))
        # One worker: a call in this thread. Several workers: the thread pool of the flow.
        results: list[Result] = []
        try:
            calls: list[Callable[[], Any]] = (
                [partial(task, item) for task, item in pairs]
                if workers == 1
                else [task.submit(item).result for task, item in pairs]
            )
            for call in calls:
                results.append(call())
                self.progress(title, len(results), len(items))
        except Exception as error:
            if any(type(error) is type(failure) for failure in failures):
                raise
            raise ServerError(f"{type(error).__name__} in Prefect") from error
        return results

    def progress(self, title: str, done: int, total: int, note: str = "") -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        now = time.monotonic()
        if done < total and now - self.shown.get(title, 0.0) < 2.0:
            return
        self.shown[title] = now
        share = 100.0 * done / max(1, total)

        def show() -> None:
            if title in self.artifacts:
                update_progress_artifact(self.artifacts[title], progress=share, description=f"{title} {note}".strip())
            else:
                self.artifacts[title] = create_progress_artifact(
                    share, key=self.key(title, "progress"), description=title
                )

        self.guard(show)

    def table(self, title: str, rows: Sequence[Row]) -> None:
        from prefect.artifacts import create_table_artifact

        self.guard(
            lambda: create_table_artifact(table=[dict(row) for row in rows], key=self.key(title), description=title)
        )

    def image(self, title: str, png: bytes) -> None:
        from prefect.artifacts import create_image_artifact

        # A data URI, so that the page can be opened on another machine.
        uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        self.guard(lambda: create_image_artifact(image_url=uri, key=self.key(title), description=title))

    def markdown(self, title: str, text: str) -> None:
        from prefect.artifacts import create_markdown_artifact

        self.guard(lambda: create_markdown_artifact(markdown=text, key=self.key(title), description=title))

    def key(self, *words: str) -> str:
        """A key from some words; keys of artifacts may contain lowercase letters, digits and dashes."""
        text = "-".join((self.stage, *words)).lower()
        return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in text).split())

    def guard(self, show: Callable[[], Any]) -> None:
        """Try to report something; if that fails, print it once and report nothing more."""
        if not self.alive:
            return
        try:
            show()
        except Exception as error:
            self.alive = False
            print(
                f"{self.stage}: cannot report to Prefect ({type(error).__name__}); the work continues", file=sys.stderr
            )
