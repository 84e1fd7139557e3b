"""Run a stage, under Prefect if there is a server.

With `DCPIPE_PREFECT=auto` (the default), the server of Prefect's settings is used if it answers (see `server`);
otherwise the same functions run without Prefect. `require` stops if there is no server, and `off` does not look for
one. Prefect displays and schedules the work, but the results do not depend on it: artifacts and states are reported if
possible, data is on disk before a flow finishes, and if the server dies or fails, the run continues and finishes with
exit code 0.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dcpipe import logs, store
from dcpipe.config import params as parameters
from dcpipe.config.registry import plugin_versions
from dcpipe.shards import in_groups, is_shard
from dcpipe.shards.progress import Step, reporting_to
from dcpipe.shards.workers import VARIABLE, Workers, wanted
from dcpipe.stopping import leave, sentence_of, stopping_in_one_sentence
from dcpipe.store import hashing
from dcpipe.workspace import digests
from dcpipe.workspace.code import code_digest
from flows.running import checking
from flows.running.inputs import Inputs
from flows.running.metrics import Metrics, chosen
from flows.running.prefect_page import Prefect, ServerError
from flows.running.reporting import Plain, Reporter
from flows.running.server import Server, choose, prepare_client

if TYPE_CHECKING:  # importing torch takes seconds, which a stage without arithmetic does not need
    import torch

    from dcpipe.shards.cluster import Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")

LAST = "release"  # stage of the pipeline
WITHOUT_ARITHMETIC = ("images", "release")  # stages that compute nothing on a device
ON_WORKERS = 256  # threads of a flow that send shards to workers and wait
GRACE_SECONDS = 15.0


@dataclass
class Run:
    """The argument of a stage's function: parameters, device, staging folder, tasks and reports."""

    stage: str
    params: parameters.Params
    reporter: Reporter
    name: str = ""
    device: torch.device = field(default_factory=lambda: _device())
    workers: Workers | None = field(default_factory=wanted)
    metrics: Metrics = field(default_factory=Metrics)
    _cluster: Cluster | None = None

    @property
    def log(self) -> logging.Logger:
        """Where the stage says what it does, for terminal, file and page."""
        return self.reporter.log

    def step(self, step: Step) -> None:
        """Show how far a piece of work has come, and write its numbers where that is asked for."""
        self.reporter.step(step)
        self.metrics.step(step)

    def lineage(self, block: Any, inputs: Inputs) -> dict[str, Any]:
        """Everything that a result of the stage depends on, which is made of `inputs` with the parameters `block`."""
        packages = ("dcpipe", "numpy", "pillow", "torch", "torchvision", "zarr")
        lineage = {
            "stage": self.stage,
            "params": block,
            "inputs": inputs.lineage,
            "code": code_digest(f"flows.{self.stage}"),
            "versions": {package: version(package) for package in packages},
            "device": self.device.type,
        }
        if plugins := plugin_versions():  # the code digest does not cover other packages
            lineage["plugins"] = plugins
        return lineage

    @contextmanager
    def staging(
        self, out: str, block: Any, inputs: Inputs, state: dict[str, Any] | None = None
    ) -> Iterator[store.StagingDir]:
        """The staging folder of an output; its lineage contains everything that the content depends on. For `state`,
        see `store.staging_dir`."""
        lineage = self.lineage(block, inputs)
        if remark := digests.remark(Path.cwd(), self.stage, lineage["code"]):
            self.log.warning("%s", remark)
        rows = [{"input": name, "digest": digest} for name, digest in inputs.lineage.items()]
        # What stages share depends on no block.
        self.reporter.table("inputs" if block is not None else f"inputs of {Path(out).name}", rows)
        with store.staging_dir(Path(out), lineage, state) as staging:
            self.log.debug("%s is made in %s of %s", out, staging.root, dict(inputs.lineage))
            yield staging

    def map(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        label: Callable[[Item], str],
        *,
        retries: int = 0,
        workers: int = 1,
        progress: str = "",
    ) -> list[Result]:
        """Run one task per item and return the results in the order of the items. The first failure is raised, with
        the name of its task.

        With `DCPIPE_WORKERS`, shards (`dcpipe.shards.is_shard`) run on workers, other functions here.
        """
        title, cluster = progress or self.stage, self._cluster_for(work, items)
        if cluster is None:
            return self.reporter.map(work, items, label, retries=retries, workers=workers, title=title)
        send, groups, name = partial(cluster.call_group, work, retries), in_groups(items, label), attrgetter("name")
        sent = self.reporter.map(send, groups, name, retries=0, workers=cluster.slots, title=title)
        return [result for results in sent for result in results]

    def _cluster_for(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Cluster | None:
        """The workers for these tasks, which are started when they are first needed; None if the tasks run here. A
        single task is not worth a worker of this machine."""
        if self.workers is None or not is_shard(work) or not (len(items) > 1 or (items and self.workers.address)):
            return None
        if self._cluster is None:
            from dcpipe.shards.cluster import Cluster

            self._cluster = Cluster(self.workers, self.device)
            self.log.info("%s", self._cluster.describe())
            self.reporter.markdown("workers", self._cluster.describe())
        return self._cluster

    def close(self) -> None:
        """End the workers that were started here, and what is shown of their work."""
        self.reporter.close()
        self.metrics.close()
        if self._cluster is not None:
            self._cluster.close()


class Host:
    """What a stage without arithmetic has for a device."""

    type, index = "cpu", None

    def __str__(self) -> str:
        return self.type


def _device(stage: str = "") -> torch.device:
    """The device of a stage. Raises `DataError` for one that is not there, also where the stage would not need it,
    because later ones will."""
    wanted = os.environ.get("DCPIPE_DEVICE", "auto")
    if stage in WITHOUT_ARITHMETIC and wanted in ("auto", "cpu"):
        return cast("torch.device", Host())
    from dcpipe.training import pick_device

    return pick_device(wanted)


def digests_file() -> Path:
    """What the stages of a workspace know of files, so that only one of them hashes a file; its folder exists."""
    root = store.scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    return root / "digests.sqlite"


def choose_reporter(stage: str, name: str, release: str) -> tuple[Reporter, Server | None]:
    """The reporter of a run of the stage for the mode and the state of the server, and the server that it uses.

    What is said of Prefect, the stage `sources` says once for a `dvc repro`.
    """
    server, sentence = choose()
    if sentence:
        level = logging.DEBUG if "DVC_STAGE" in os.environ else logging.INFO
        logs.logger("flows.running").log(level, "%s", sentence)
    if server is None:
        return Plain(stage), None
    prepare_client(server)
    return Prefect(stage, name, tags_of(release)), server


def tags_of(release: str) -> list[str]:
    """The tags of a run in Prefect: the release, the workspace, and the commit if there is one."""
    tags = [f"release {release}", f"workspace {Path.cwd()}"]
    with suppress(OSError, subprocess.CalledProcessError):  # there may be no git, no repository and no commit
        command = ["git", "rev-parse", "--short", "HEAD"]
        tags.append(f"commit {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}")
    return tags


def main(stage: Callable[..., None], name: str, keyed: bool = False) -> None:
    """The command line of one stage: `python -m flows.STAGE [KEY]`, as dvc.yaml calls it."""
    module = sys.modules[stage.__module__]
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if keyed:
        parser.add_argument("key", help="a key of the stage's block in params.yaml")
    logs.add_options(parser)
    arguments = parser.parse_args()
    keys = [arguments.key] if keyed else []
    title = " ".join([name, *keys])
    with logs.kept(title), stopping_in_one_sentence(title, arguments.level):
        run_stage(stage, name, *keys)


def run_stage(stage: Callable[..., None], stage_name: str, *keys: str) -> None:
    """Run one stage under Prefect if there is a server, else without it; the data is the same either way."""
    params = checking.load(trusting=stage_name in WITHOUT_ARITHMETIC)
    name = f"{stage_name} {' '.join(keys)}".strip()
    reporter, server = choose_reporter(stage_name, name, params.release.name)
    run, started = Run(stage_name, params, reporter, name, _device(stage_name)), time.monotonic()
    run.metrics = chosen(name)
    if stage_name not in WITHOUT_ARITHMETIC:
        from dcpipe.training import keep_freed_memory

        keep_freed_memory(run.device)
    try:
        with reporting_to(run.step), hashing.sharing(digests_file()):
            if server is None:
                stage(run, *keys)
            else:
                _run_in_prefect(stage, run, keys, server)
    finally:
        run.close()
    run.log.info("done in %.1f s", time.monotonic() - started)
    if stage_name == LAST:
        from flows.running.ending import tell

        tell(Path.cwd(), params.release.name)


def _run_in_prefect(stage: Callable[..., None], run: Run, keys: tuple[str, ...], server: Server) -> None:
    """Run a stage in a Prefect flow. If Prefect fails, before, in or after the work, the rest is done without it."""
    page = run.reporter
    assert isinstance(page, Prefect)
    failures: list[BaseException] = []
    finished, returned = threading.Event(), threading.Event()

    def body() -> Any:
        try:
            with page.logging_to_page():
                page.markdown("run", _links(run))
                stage(run, *keys)
        except ServerError:
            raise
        except BaseException as error:
            failures.append(error)
            return _failed(error)
        finished.set()
        threading.Thread(target=_leave_unless, args=(returned,), daemon=True).start()
        return None

    try:
        if run.workers is not None:
            page.threads = ON_WORKERS
        _bodies.append(body)
        page.run_flow(_flow_of(run.stage), f"{run.name} of {run.params.release.name}", _shown(run, keys))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if not failures:
            run.log.warning("Prefect failed (%s); continuing without it", type(error.__cause__ or error).__name__)
            if not finished.is_set():  # finished work is in the staging folder, so only the rest is done again
                page.close()
                run.reporter = Plain(run.stage)
                stage(run, *keys)
            _leave()
    finally:
        _bodies.clear()
        returned.set()
    if failures:
        raise failures[-1] from None
    if server.problem():
        _leave()


def _failed(error: BaseException) -> Any:
    """The state of a flow that has failed, with the sentence for people as its message. A bug is raised instead, and
    Prefect logs its traceback."""
    from prefect.states import Failed

    if not (sentence := sentence_of(error)):
        raise error
    return Failed(message=sentence, data=error)


def _links(run: Run) -> str:
    """Where to look further, as Markdown."""
    files = [
        handler.baseFilename for handler in logging.getLogger("dcpipe").handlers if hasattr(handler, "baseFilename")
    ]
    rows = {"workspace": str(Path.cwd()), "parameters": str(Path("params.yaml").absolute()), "log": "".join(files)}
    return "\n".join(f"* {name}: `{place}`" for name, place in rows.items() if place)


_bodies: list[Callable[[], Any]] = []  # of the stage that this process runs, for its flow


def _flow_of(stage: str) -> Any:
    """The Prefect flow of a stage; Prefect takes seconds to import, so only where there is a server."""
    from flows.deployments import FLOWS

    return FLOWS[stage]


def _shown(run: Run, keys: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of a flow run, which its page shows."""
    block = run.params.content().get(run.stage)
    workers = os.environ.get(VARIABLE, "")
    return {**({"key": keys[0]} if keys else {}), "params": block, "device": str(run.device), "workers": workers}


def body_of_flow(stage: str, *keys: str) -> Any:
    """What the flow of a stage does: the body that this process has prepared, or, if the flow is called or served by
    itself, the stage in the workspace of the current folder, recorded in dvc.lock as `dvc repro` does."""
    if _bodies:
        return _bodies.pop()()
    module = import_module(f"flows.{stage}.stage" if stage == "studies" else f"flows.{stage}")
    name, params = f"{stage} {' '.join(keys)}".strip(), checking.load()
    page = Prefect(stage, name)
    run = Run(stage, params, page, name)
    try:
        with reporting_to(run.step), page.logging_to_page():
            page.markdown("run", _links(run))
            getattr(module, f"{stage}_stage")(run, *keys)
    except Exception as error:
        return _failed(error)
    finally:
        run.close()
    if stage == "judging":  # in a folder of `dcpipe judge`, which DVC does not track
        return None
    targets = {"teacher": "teacher@{}", "studies": "studies/dvc.yaml:{}"}
    subprocess.run(["dvc", "commit", "--force", targets.get(stage, stage).format(*keys)], check=True)
    return None


def _leave_unless(returned: threading.Event) -> None:
    """Called when all data is published: waiting minutes for a sick server must not block the pipeline."""
    if not returned.wait(GRACE_SECONDS):
        _leave()


def _leave() -> None:
    """End the process successfully: threads of Prefect's client would wait for the server."""
    leave("done; Prefect does not answer, so its page of this run stays incomplete", 0)
