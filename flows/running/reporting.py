"""Two ways to run tasks and show them: plainly in the terminal, or through Prefect. Same work, same results."""

from __future__ import annotations

import base64
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")
Row = Mapping[str, Any]


class Reporter(ABC):
    """Abstract; `Plain` and `Prefect` are final."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    @property
    @abstractmethod
    def watched(self) -> bool:
        """Whether pictures reach anybody: if not, none need be made."""

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
        """Run one task an item, `workers` at a time; results in the order of items."""

    @abstractmethod
    def progress(self, title: str, done: int, total: int, note: str = "") -> None:
        """Show how far a long task is; cheap to call often."""

    @abstractmethod
    def table(self, title: str, rows: Sequence[Row]) -> None:
        """Show a table."""

    @abstractmethod
    def image(self, title: str, png: bytes) -> None:
        """Show a picture."""

    @abstractmethod
    def markdown(self, title: str, text: str) -> None:
        """Show a text."""


class Plain(Reporter):
    """No server: tasks are calls, progress is a bar where there is a terminal and a line a while elsewhere."""

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
        with (
            ThreadPoolExecutor(max_workers=workers) as pool,
            Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar,
        ):
            shown = bar.add_task(title, total=len(items))
            futures = [pool.submit(attempt, work, item, label(item), retries) for item in items]
            try:
                for future in futures:
                    results.append(future.result())
                    bar.advance(shown)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
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


def attempt(work: Callable[[Item], Result], item: Item, name: str, retries: int) -> Result:
    """Call `work(item)`, again after an error of the outside world (`OSError`) alone: bad data stays bad."""
    for left in range(retries, -1, -1):
        try:
            return work(item)
        except Exception as error:
            if left == 0 or not isinstance(error, OSError):
                error.add_note(f"in task {name}")
                raise
            print(f"task {name}: {error}; trying again", file=sys.stderr)
            time.sleep(1.0)
    raise AssertionError


class Prefect(Reporter):
    """Tasks as Prefect tasks, with live artifacts. No call about looks may stop the work: the first that fails is
    told once, and no more are made."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.alive = True
        self.artifacts: dict[str, Any] = {}
        self.shown: dict[str, float] = {}

    @property
    def watched(self) -> bool:
        return self.alive

    def run_flow(self, body: Callable[[], None], name: str) -> None:
        """Run `body` as the stage's flow; its exceptions come through."""
        from prefect.flows import Flow
        from prefect.task_runners import ThreadPoolTaskRunner

        def told(flow: Any, flow_run: Any, state: Any) -> None:
            """Prefect passes these three by name."""
            print(f"flow {flow_run.name}: {state.name}: {state.message}", file=sys.stderr)

        threads: Any = ThreadPoolTaskRunner(max_workers=4)
        shown: Flow[[], None] = Flow(
            body,
            name=self.stage,
            flow_run_name=name,
            on_failure=[told],
            on_crashed=[told],
            on_cancellation=[told],
            task_runner=threads,
            validate_parameters=False,
        )
        shown()

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
            """Only errors of the outside world are worth a second try."""
            return isinstance(state.result(raise_on_failure=False), OSError)

        def told(task: Any, task_run: Any, state: Any) -> None:
            """Prefect passes these three by name."""
            print(f"task {task_run.name}: {state.message}", file=sys.stderr)

        shown: Task[[Item], Result] = Task(
            work,
            name=title,
            retries=retries,
            retry_delay_seconds=1,
            retry_condition_fn=may_help,
            on_failure=[told],
            # DVC alone decides what is stale: a cached result would skip work whose output DVC has removed.
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        named = [shown.with_options(task_run_name=label(item)) for item in items]
        pairs = list(zip(named, items, strict=True))
        # One worker: a plain call, which runs in this thread; several: the flow's thread pool.
        calls: list[Callable[[], Any]] = (
            [partial(task, item) for task, item in pairs]
            if workers == 1
            else [task.submit(item).result for task, item in pairs]
        )
        results: list[Result] = []
        for call in calls:
            results.append(call())
            self.progress(title, len(results), len(items))
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

        # A data URI: the page shows it whatever machine it is opened on.
        uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        self.guard(lambda: create_image_artifact(image_url=uri, key=self.key(title), description=title))

    def markdown(self, title: str, text: str) -> None:
        from prefect.artifacts import create_markdown_artifact

        self.guard(lambda: create_markdown_artifact(markdown=text, key=self.key(title), description=title))

    def key(self, *words: str) -> str:
        """Artifact keys allow lowercase letters, digits and dashes."""
        text = "-".join((self.stage, *words)).lower()
        return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in text).split())

    def guard(self, show: Callable[[], Any]) -> None:
        """Try to show something; on failure say so once and show no more."""
        if not self.alive:
            return
        try:
            show()
        except Exception as error:
            self.alive = False
            print(f"{self.stage}: cannot report to Prefect ({type(error).__name__}); the work goes on", file=sys.stderr)
