"""How a stage runs: the only home of Prefect, which may be absent.

`DCPIPE_PREFECT=auto` (default) uses the server when its health check answers (`PREFECT_API_URL`, or the default
loopback address) and otherwise runs the same functions plainly; `require` stops without a server; `off` never looks.
Prefect shows and schedules the work but does not own it: artifacts and states are reported as best they can be, data
is on disk before a flow ends, and a server that dies leaves a run that goes on and ends with exit code 0.
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
    """What a stage's function is given: parameters, device, staging folder, tasks and reports."""

    stage: str
    params: parameters.Params
    reporter: Reporter
    name: str = ""
    device: torch.device = field(default_factory=lambda: pick_device(os.environ.get("DCPIPE_DEVICE", "auto")))

    @contextmanager
    def staging(
        self, out: str, block: Any, inputs: Inputs, state: dict[str, Any] | None = None
    ) -> Iterator[store.StagingDir]:
        """The staging folder of an output; its lineage is what the content is a function of. For `state`, see
        `store.staging_dir`."""
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
        if plugins := plugin_versions():  # what other packages compute is in no code digest
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
        """One task an item, in order of items; results in that order. The first failure is raised, named."""
        title = progress or self.stage
        return self.reporter.map(work, items, label, retries=retries, workers=workers, title=title)


def server_answers(url: str) -> bool:
    """Whether a Prefect server is healthy at `url`, asked with a short patience."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (http.client.HTTPException, OSError, ValueError):  # the first: something answers, but not HTTP
        return False


def choose_reporter(stage: str, name: str) -> tuple[Reporter, str]:
    """The reporter that the mode and the server's health call for, and the server's address ("" for none)."""
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
        print(f"{name}: no Prefect server at {url}, running plainly", file=sys.stderr)
    return Plain(stage), ""


def main(stage: Callable[..., None], noun: str, keyed: bool = False) -> None:
    """The command line of one stage: `python -m flows.STAGE [KEY]`, as dvc.yaml calls it."""
    module = sys.modules[stage.__module__]
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{noun}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if keyed:
        parser.add_argument("key", help="which one, a key of the stage's block in params.yaml")
    arguments = parser.parse_args()
    keys = [arguments.key] if keyed else []
    try:
        run_stage(stage, noun, *keys)
    except DataError as error:
        print(f"{noun}: {error}", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print(f"{noun}: out of memory; lower the stage's batch_size", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno != 28:  # ENOSPC
            raise
        print(f"{noun}: the disk is full ({error}); free space, then run `dvc repro` to go on", file=sys.stderr)
        sys.exit(1)


def run_stage(stage: Callable[..., None], noun: str, *keys: str) -> None:
    """Run one stage under Prefect if a server is there, else plainly; finished data never depends on which."""
    params = parameters.load()
    name = f"{noun} {' '.join(keys)}".strip()
    reporter, url = choose_reporter(noun, name)
    started = time.monotonic()
    run = Run(noun, params, reporter, name)
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
            f"{run.name}: the Prefect server went away ({type(error).__name__}); going on without it", file=sys.stderr
        )
        if not finished.is_set():  # what is done is on the bench: only the rest is done again
            stage(Run(run.stage, run.params, Plain(run.stage), run.name), *keys)
    if not server_answers(url):
        _leave(run.name)


def _leave_if_server_died(name: str, url: str) -> None:
    """All data is published; a client that waits minutes for a dead server must not hold the pipeline."""
    time.sleep(GRACE_SECONDS)
    if not server_answers(url):
        _leave(name)


def _leave(name: str) -> None:
    print(f"{name}: done; the Prefect server is gone, its run page stays incomplete", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
