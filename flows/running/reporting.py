"""How tasks are run and reported on: without a server here, on Prefect's page in `prefect_page`. Both give the same
results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event
from typing import Any, TypeVar

from dcpipe import logs
from dcpipe.shards import attempt
from dcpipe.shards.progress import Step
from flows.running.display import Display

Item = TypeVar("Item")
Result = TypeVar("Result")
Row = Mapping[str, Any]


class Reporter(ABC):
    """Abstract base of `Plain` and `Prefect`; progress is shown in the terminal by both."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.log = logs.logger(f"flows.{stage}")
        self.display = Display(self.log)

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

    def progress(self, title: str, done: int, total: int, note: str = "") -> None:
        """Report the progress of a long task; cheap enough to be called often."""
        self.step(Step(title, done, total, note))

    def step(self, step: Step) -> None:
        """As `progress`."""
        self.display.show(step)

    def close(self) -> None:
        """Remove what is shown of work under way."""
        self.display.close()

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
    """Without a server: tasks are function calls."""

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
        try:
            self.progress(title, 0, len(items))
            futures = [pool.submit(task, item) for item in items]
            for future in futures:
                results.append(future.result())
                self.progress(title, len(results), len(items))
        except KeyboardInterrupt:
            wait = False  # a running task may take hours
            raise
        finally:
            pool.shutdown(wait, cancel_futures=True)
        return results

    def table(self, title: str, rows: Sequence[Row]) -> None:
        pass  # the same rows are in the artifact, and `dcpipe status` prints them

    def image(self, title: str, png: bytes) -> None:
        pass

    def markdown(self, title: str, text: str) -> None:
        pass
