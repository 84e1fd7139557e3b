"""Run a stage, under Prefect if there is a server.

With `DCPIPE_PREFECT=auto` (the default), the server of Prefect's settings is used if it answers (see `server`);
otherwise the same functions run without Prefect. `require` stops if there is no server, and `off` does not look for
one. Prefect displays and schedules the work, but the results do not depend on it: artifacts and states are reported if
possible, data is on disk before a flow finishes, and if the server dies or fails, the run continues and finishes with
exit code 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dcpipe import store
from dcpipe.config import params as parameters
from dcpipe.config.registry import plugin_versions
from dcpipe.shards import in_groups, is_shard
from dcpipe.shards.progress import reporting_to
from dcpipe.shards.workers import VARIABLE, Workers, wanted
from dcpipe.stopping import leave, stopping_in_one_sentence
from dcpipe.store import hashing
from dcpipe.types import require
from dcpipe.workspace import digests
from dcpipe.workspace.code import code_digest
from flows.running.inputs import Inputs
from flows.running.reporting import Plain, Prefect, Reporter, ServerError
from flows.running.server import Server, configured, prepare_client

if TYPE_CHECKING:  # importing torch takes seconds, which a stage without arithmetic does not need
    import torch

    from dcpipe.shards.cluster import Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")

LAST = "release"  # stage of the pipeline
WITHOUT_ARITHMETIC = ("images",)  # stages that compute nothing on a device
MODES = ("auto", "require", "off")
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
    _cluster: Cluster | None = None

    @contextmanager
    def staging(
        self, out: str, block: Any, inputs: Inputs, state: dict[str, Any] | None = None
    ) -> Iterator[store.StagingDir]:
        """The staging folder of an output; its lineage contains everything that the content depends on. For `state`,
        see `store.staging_dir`."""
        code = code_digest(f"flows.{self.stage}")
        if remark := digests.remark(Path.cwd(), self.stage, code):
            print(f"{self.name or self.stage}: {remark}", file=sys.stderr)
        lineage = {
            "stage": self.stage,
            "params": block,
            "inputs": inputs.lineage,
            "code": code,
            "versions": {
                package: version(package) for package in ("dcpipe", "numpy", "pillow", "torch", "torchvision", "zarr")
            },
            "device": self.device.type,
        }
        if plugins := plugin_versions():  # the code digest does not cover other packages
            lineage["plugins"] = plugins
        rows = [{"input": name, "digest": digest} for name, digest in inputs.lineage.items()]
        self.reporter.table(f"inputs of {Path(out).name}", rows)
        with store.staging_dir(Path(out), lineage, state) as staging:
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
            print(f"{self.name or self.stage}: {self._cluster.describe()}", file=sys.stderr)
            self.reporter.markdown("workers", self._cluster.describe())
        return self._cluster

    def close(self) -> None:
        """End the workers that were started here."""
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


def choose_reporter(stage: str, name: str) -> tuple[Reporter, Server | None]:
    """The reporter for the mode and the state of the server, and the server that it uses."""
    mode = os.environ.get("DCPIPE_PREFECT", "auto")
    require(mode in MODES, f"DCPIPE_PREFECT is {mode!r}; use one of {', '.join(MODES)}")
    if mode == "off":
        return Plain(stage), None
    server = configured()
    problem = server.problem()
    if not problem:
        prepare_client(server)
        return Prefect(stage), server
    require(mode != "require", f"DCPIPE_PREFECT=require but {problem}; run `prefect server start`")
    print(f"{name}: {problem}; running without Prefect", file=sys.stderr)
    return Plain(stage), None


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
    arguments = parser.parse_args()
    with stopping_in_one_sentence(name):
        run_stage(stage, name, *([arguments.key] if keyed else []))


def run_stage(stage: Callable[..., None], stage_name: str, *keys: str) -> None:
    """Run one stage under Prefect if there is a server, else without it; the data is the same either way."""
    params = parameters.load()
    name = f"{stage_name} {' '.join(keys)}".strip()
    reporter, server = choose_reporter(stage_name, name)
    run, started = Run(stage_name, params, reporter, name, _device(stage_name)), time.monotonic()
    if stage_name not in WITHOUT_ARITHMETIC:
        from dcpipe.training import keep_freed_memory

        keep_freed_memory(run.device)
    try:
        with reporting_to(run.reporter.progress), hashing.sharing(digests_file()):
            if server is None:
                stage(run, *keys)
            else:
                _run_in_prefect(stage, run, keys, server)
    finally:
        run.close()
    print(f"{name}: done in {time.monotonic() - started:.1f} s", file=sys.stderr)
    if stage_name == LAST:
        from flows.running.ending import tell

        tell(Path.cwd(), params.release.name)


def _run_in_prefect(stage: Callable[..., None], run: Run, keys: tuple[str, ...], server: Server) -> None:
    """Run a stage in a Prefect flow. If Prefect fails, before, in or after the work, the rest is done without it."""
    assert isinstance(run.reporter, Prefect)
    failures: list[BaseException] = []
    finished, returned = threading.Event(), threading.Event()

    def body() -> None:
        try:
            stage(run, *keys)
        except ServerError:
            raise
        except BaseException as error:
            failures.append(error)
            raise
        finished.set()
        threading.Thread(target=_leave_unless, args=(returned, run.name), daemon=True).start()

    try:
        if run.workers is not None:
            run.reporter.threads = ON_WORKERS
        _bodies.append(body)
        run.reporter.run_flow(_flow_of(run.stage), f"{run.name} of {run.params.release.name}", _shown(run, keys))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if failures:
            raise failures[-1] from None
        reason = type(error.__cause__ or error).__name__
        print(f"{run.name}: Prefect failed ({reason}); continuing without it", file=sys.stderr)
        if not finished.is_set():  # finished work is in the staging folder, so only the rest is done again
            run.reporter = Plain(run.stage)
            with reporting_to(run.reporter.progress):
                stage(run, *keys)
        _leave(run.name)
    finally:
        _bodies.clear()
        returned.set()
    if server.problem():
        _leave(run.name)


_bodies: list[Callable[[], None]] = []  # of the stage that this process runs, for its flow


def _flow_of(stage: str) -> Any:
    """The Prefect flow of a stage; Prefect takes seconds to import, so only where there is a server."""
    from flows.deployments import FLOWS

    return FLOWS[stage]


def _shown(run: Run, keys: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of a flow run, which its page shows."""
    block = run.params.content().get(run.stage)
    workers = os.environ.get(VARIABLE, "")
    return {**({"key": keys[0]} if keys else {}), "params": block, "device": str(run.device), "workers": workers}


def body_of_flow(stage: str, *keys: str) -> None:
    """What the flow of a stage does: the body that this process has prepared, or, if the flow is called or served by
    itself, the stage in the workspace of the current folder, recorded in dvc.lock as `dvc repro` does."""
    if _bodies:
        _bodies.pop()()
        return
    module = import_module(f"flows.{stage}.stage" if stage == "studies" else f"flows.{stage}")
    run = Run(stage, parameters.load(), Prefect(stage), f"{stage} {' '.join(keys)}".strip())
    try:
        with reporting_to(run.reporter.progress):
            getattr(module, f"{stage}_stage")(run, *keys)
    finally:
        run.close()
    targets = {"teacher": "teacher@{}", "studies": "studies/dvc.yaml:{}"}
    subprocess.run(["dvc", "commit", "--force", targets.get(stage, stage).format(*keys)], check=True)


def _leave_unless(returned: threading.Event, name: str) -> None:
    """Called when all data is published: waiting minutes for a sick server must not block the pipeline."""
    if not returned.wait(GRACE_SECONDS):
        _leave(name)


def _leave(name: str) -> None:
    """End the process successfully: threads of Prefect's client would wait for the server."""
    leave(f"{name}: done; Prefect does not answer, so its page of this run stays incomplete", 0)
