"""Run tasks as those of Prefect, and report on the page of the run: progress, messages, tables and pictures."""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import BoundedSemaphore
from typing import Any
from uuid import UUID

from dcpipe import logs
from dcpipe.shards.progress import Step
from dcpipe.stopping import sentence_of
from flows.running.display import line
from flows.running.reporting import Item, Reporter, Result, Row

THREADS = 4  # tasks of a flow at a time, where a stage asks for more than one
PARENT = "DCPIPE_PARENT_TASK"  # the task of a flow that runs stages, for which this one is a part of its run
PROGRESS_SECONDS = 2.0  # between two updates of the page


class ServerError(Exception):
    """Prefect failed, not the work."""


class Prefect(Reporter):
    """Runs tasks as Prefect tasks, with live artifacts. Failing to report must not stop the work: the first failure is
    logged, and nothing more is reported. `name` is that of the stage and its key; `tags` are those of the run."""

    def __init__(self, stage: str, name: str = "", tags: Sequence[str] = ()) -> None:
        super().__init__(stage)
        self.name, self.tags = name or stage, list(tags)
        self.alive, self.threads = True, THREADS
        self.phases: list[Step] = []  # of tasks that run now, the innermost last
        self.bar: Any = None
        self.shown = 0.0

    @property
    def watched(self) -> bool:
        return self.alive

    def run_flow(self, flow: Any, name: str, parameters: Mapping[str, Any]) -> None:
        """Run the flow of the stage, with at most `threads` tasks at a time; its exceptions are raised here."""
        from prefect import tags
        from prefect.client.orchestration import get_client
        from prefect.flow_engine import run_flow
        from prefect.states import Pending
        from prefect.task_runners import ThreadPoolTaskRunner

        take_over_logging()
        runner: Any = ThreadPoolTaskRunner(max_workers=self.threads)
        flow = flow.with_options(flow_run_name=name, task_runner=runner)
        with tags(*self.tags):
            if PARENT not in os.environ:
                flow(**parameters)
                return
            with get_client(sync_client=True) as client:
                run = client.create_flow_run(
                    flow,
                    name=name,
                    parameters=dict(parameters),
                    parent_task_run_id=UUID(os.environ[PARENT]),
                    state=Pending(),
                    tags=self.tags,
                )
            run_flow(flow, flow_run=run, parameters=dict(parameters))

    @contextmanager
    def logging_to_page(self) -> Iterator[None]:
        """In a flow: a context manager in which messages, from level `info` on, are in the log of the run too."""
        from prefect.context import FlowRunContext, TaskRunContext
        from prefect.logging.handlers import APILogHandler

        context = FlowRunContext.get()
        run = None if context is None else context.flow_run
        if run is None:
            yield
            return

        def mark(record: logging.LogRecord) -> bool:
            """Threads that Prefect does not know, such as that of Dask's messages, have no context of a run."""
            task = TaskRunContext.get()
            record.flow_run_id = run.id
            record.task_run_id = None if task is None else task.task_run.id
            return self.alive

        handler = APILogHandler(logging.INFO)
        handler.addFilter(mark)
        with logs.added(handler):
            yield

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
        from prefect.client.schemas.objects import State
        from prefect.states import Failed
        from prefect.tasks import Task

        def may_help(task: Any, task_run: Any, state: Any) -> bool:
            """Only an `OSError` is worth a second try."""
            return isinstance(state.result(raise_on_failure=False), OSError)

        failures, places = list[BaseException](), BoundedSemaphore(workers)  # the flow may have more threads

        def tracked(item: Item) -> Any:
            """An error that has a sentence for a person is returned as a state, which has the sentence as its message;
            of one that is raised, Prefect logs the traceback."""
            try:
                with places:
                    return work(item)
            except BaseException as error:
                failures.append(error)
                if sentence := sentence_of(error):
                    return Failed(message=sentence, data=error)
                raise

        shown: Task[[Item], Any] = Task(
            tracked,
            name=title,
            retries=retries,
            retry_delay_seconds=1,
            retry_condition_fn=may_help,
            # Only DVC decides what is stale: a cached result would skip work whose output DVC has removed.
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        named = [shown.with_options(task_run_name=label(item)) for item in items]
        pairs = list(zip(named, items, strict=True))
        # One worker: a call in this thread. Several workers: the thread pool of the flow.
        results: list[Result] = []
        with self._phase(Step(title, 0, len(items))):
            self.progress(title, 0, len(items))
            try:
                calls: list[Callable[[], Any]] = (
                    [partial(task, item) for task, item in pairs]
                    if workers == 1
                    else [task.submit(item).result for task, item in pairs]
                )
                for call in calls:
                    result = call()
                    if isinstance(result, State):
                        raise failures[-1]
                    results.append(result)
                    self.progress(title, len(results), len(items))
            except Exception as error:
                if any(error is failure or type(error) is type(failure) for failure in failures):
                    raise
                raise ServerError(f"{type(error).__name__} in Prefect") from error
        return results

    @contextmanager
    def _phase(self, start: Step) -> Iterator[None]:
        """Tasks that are now all of what the stage does. A single task is shown by what it reports itself."""
        if start.total < 2:
            yield
            return
        self.phases.append(start)
        try:
            yield
        finally:
            self.phases.pop()

    def step(self, step: Step) -> None:
        """Show a step on the one bar of the page: the tasks of the stage, with what runs now as its description."""
        super().step(step)
        whole = bool(self.phases) and step.title == self.phases[-1].title
        if whole:
            self.phases[-1] = step
        elif not self.phases and step.total < 2:
            return
        now, first = time.monotonic(), self.phases[-1] if self.phases else step
        if now - self.shown < PROGRESS_SECONDS and not (first is step and step.done >= step.total):
            return
        self.shown = now
        share = 100.0 * first.done / max(1, first.total)
        text = line(step) if first is step else f"{line(first)}; {line(step)}"
        self._guard(partial(self._show_progress, share, text))

    def _show_progress(self, share: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self.bar is None:
            self.bar = create_progress_artifact(share, key=self.key("progress"), description=text)
        else:
            update_progress_artifact(self.bar, progress=share, description=text)

    def table(self, title: str, rows: Sequence[Row]) -> None:
        from prefect.artifacts import create_table_artifact

        self._guard(
            lambda: create_table_artifact(table=[dict(row) for row in rows], key=self.key(title), description=title)
        )

    def image(self, title: str, png: bytes) -> None:
        from prefect.artifacts import create_image_artifact

        # A data URI, so that the page can be opened on another machine.
        uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        self._guard(lambda: create_image_artifact(image_url=uri, key=self.key(title), description=title))

    def markdown(self, title: str, text: str) -> None:
        from prefect.artifacts import create_markdown_artifact

        self._guard(lambda: create_markdown_artifact(markdown=text, key=self.key(title), description=title))

    def key(self, title: str) -> str:
        """The key of an artifact: the words of the run's name, and those of the title that it does not have; keys may
        contain lowercase letters, digits and dashes."""
        name, words = (
            "".join(c if c.isalnum() and c.isascii() else " " for c in text.lower()).split()
            for text in (self.name, title)
        )
        return "-".join([*name, *(word for word in words if word not in name)])

    def _guard(self, show: Callable[[], Any]) -> None:
        """Try to report something; if that fails, log it once and report nothing more."""
        if not self.alive:
            return
        try:
            show()
        except Exception as error:
            self.alive = False
            self.log.warning("cannot report to Prefect (%s); the work continues", type(error).__name__)


def _tells_something(record: logging.LogRecord) -> bool:
    """Whether a message of Prefect about a task says more than that it ended well, which hundreds do."""
    return not record.getMessage().startswith("Finished in state Completed")


class _Relay(logging.Handler):
    """Passes the messages of Prefect on to ours, as details."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        logs.logger("prefect").debug("%s", record.getMessage(), exc_info=record.exc_info)


def take_over_logging() -> None:
    """Keep what Prefect writes to standard error for the log file and for `-v`: of a failed run it would write the
    traceback, and of a server that has died a paragraph for each message that was not sent."""
    import prefect  # configures its loggers when it is imported

    ours = logging.getLogger(prefect.__name__)
    ours.propagate = False
    if not any(isinstance(handler, _Relay) for handler in ours.handlers):
        ours.addHandler(_Relay())
        logging.getLogger("prefect.task_runs").addFilter(_tells_something)
    logging.raiseExceptions = False
