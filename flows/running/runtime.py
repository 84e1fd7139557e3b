"""Run a stage, under Prefect if there is a server.

With `DCPIPE_PREFECT=auto` (the default), the server is used if its health check answers (at `PREFECT_API_URL`, or the
default loopback address); otherwise the same functions run without Prefect. `require` stops if there is no server, and
`off` does not look for one. Prefect displays and schedules the work, but the results do not depend on it: artifacts and
states are reported if possible, data is on disk before a flow finishes, and if the server dies, the run continues and
finishes with exit code 0.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from dcpipe import store
from dcpipe.config import params as parameters
from dcpipe.config.registry import plugin_versions
from dcpipe.training import pick_device
from dcpipe.types import DataError, require
from flows.running.code import code_digest
from flows.running.inputs import Inputs
from flows.running.reporting import Plain, Prefect, Reporter

Item = TypeVar("Item")
Result = TypeVar("Result")

MODES = ("auto", "require", "off")
DEFAULT_API = "http://127.0.0.1:4200/api"
GRACE_SECONDS = 15.0


@dataclass
class Run:
    """The argument of a stage's function: parameters, device, staging folder, tasks and reports."""

    stage: str
    params: parameters.Params
    reporter: Reporter
    name: str = ""
    device: torch.device = field(default_factory=lambda: pick_device(os.environ.get("DCPIPE_DEVICE", "auto")))

    @contextmanager
    def staging(
        self, out: str, block: Any, inputs: Inputs, state: dict[str, Any] | None = None
    ) -> Iterator[store.StagingDir]:
        """The staging folder of an output; its lineage contains everything that the content depends on. For `state`,
        see `store.staging_dir`."""
        lineage = {
            "stage": self.stage,
            "params": block,
            "inputs": inputs.lineage,
            "code": code_digest(f"flows.{self.stage}"),
            "versions": {
                package: version(package) for package in ("dcpipe", "numpy", "pillow", "torch", "torchvision", "zarr")
            },
            "device": self.device.type,
        }
        if plugins := plugin_versions():  # the code digest does not cover other packages
            lineage["plugins"] = plugins
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
        the name of its task."""
        title = progress or self.stage
        return self.reporter.map(work, items, label, retries=retries, workers=workers, title=title)


def server_answers(url: str) -> bool:
    """Whether a Prefect server at `url` answers its health check within two seconds."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (http.client.HTTPException, OSError, ValueError):  # HTTPException: something answers, but not in HTTP
        return False


def choose_reporter(stage: str, name: str) -> tuple[Reporter, str]:
    """The reporter for the mode and the state of the server, and the address of the server ("" for none)."""
    mode = os.environ.get("DCPIPE_PREFECT", "auto")
    require(mode in MODES, f"DCPIPE_PREFECT is {mode!r}; use one of {', '.join(MODES)}")
    url = os.environ.get("PREFECT_API_URL", DEFAULT_API)
    if mode != "off" and server_answers(url):
        os.environ["PREFECT_API_URL"] = url
        return Prefect(stage), url
    require(
        mode != "require",
        f"DCPIPE_PREFECT=require but no Prefect server answers at {url}; run `prefect server start`",
    )
    if mode == "auto":
        print(f"{name}: no Prefect server at {url}; running without Prefect", file=sys.stderr)
    return Plain(stage), ""


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
    keys = [arguments.key] if keyed else []
    try:
        run_stage(stage, name, *keys)
    except DataError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print(f"{name}: out of memory; lower the stage's batch_size", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno != 28:  # ENOSPC
            raise
        print(f"{name}: the disk is full ({error}); free space, then run `dvc repro` to continue", file=sys.stderr)
        sys.exit(1)


def run_stage(stage: Callable[..., None], stage_name: str, *keys: str) -> None:
    """Run one stage under Prefect if there is a server, else without it; the data is the same either way."""
    params = parameters.load()
    name = f"{stage_name} {' '.join(keys)}".strip()
    reporter, url = choose_reporter(stage_name, name)
    started = time.monotonic()
    run = Run(stage_name, params, reporter, name)
    if not url:
        stage(run, *keys)
    else:
        _run_in_prefect(stage, run, keys, url)
    print(f"{name}: done in {time.monotonic() - started:.1f} s", file=sys.stderr)


def _run_in_prefect(stage: Callable[..., None], run: Run, keys: tuple[str, ...], url: str) -> None:
    assert isinstance(run.reporter, Prefect)
    finished = threading.Event()

    def body() -> None:
        stage(run, *keys)
        finished.set()
        threading.Thread(target=_leave_if_server_died, args=(run.name, url), daemon=True).start()

    try:
        run.reporter.run_flow(body, f"{run.name} of {run.params.release.name}")
    except DataError:
        raise
    except BaseException as error:
        if server_answers(url) or isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        print(
            f"{run.name}: the Prefect server went away ({type(error).__name__}); continuing without it", file=sys.stderr
        )
        if not finished.is_set():  # finished work is in the staging folder, so only the rest is done again
            stage(Run(run.stage, run.params, Plain(run.stage), run.name), *keys)
    if not server_answers(url):
        _leave(run.name)


def _leave_if_server_died(name: str, url: str) -> None:
    """Called when all data is published: waiting minutes for a dead server must not block the pipeline."""
    time.sleep(GRACE_SECONDS)
    if not server_answers(url):
        _leave(name)


def _leave(name: str) -> None:
    print(f"{name}: done; the Prefect server is gone, so its page of this run stays incomplete", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
