"""Stages on workers in other processes, of this command or of a scheduler that is there: the same digests as in one
process, whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from schedulers import Scheduler
from test_prefect import Server
from workspaces import Workspace

pytestmark = pytest.mark.pipeline
# Stages with shards, those that a test removes and makes again, with the folders that they make.
SHARDED = {
    "images": "data/images",
    "features": "data/features",
    "softlabels": "data/softlabels",
    "compression": "data/compression",
    "evaluation": "data/evaluation/scores",
}


def digests(workspace: Workspace) -> dict[str, str]:
    """Digest by folder of every artifact."""
    found = sorted((workspace.root / "data").rglob("artifact.json"))
    return {
        path.parent.relative_to(workspace.root).as_posix(): json.loads(path.read_text(encoding="utf-8"))["digest"]
        for path in found
    }


def again(workspace: Workspace, *stages: str, **env: str) -> str:
    """Remove the artifacts of some stages and make them again; what was printed."""
    for stage in stages:
        shutil.rmtree(workspace.root / SHARDED[stage])
    return "".join(workspace.stage(stage, **env) for stage in stages)


def processes_in(folder: Path) -> list[int]:
    """The processes whose current folder is this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


def test_stages_on_two_workers_of_this_machine(line: Workspace, copy_of_line: Workspace) -> None:
    """The others are run on the workers of a scheduler, which start only once."""
    stages = ("images", "features", "evaluation")
    output = again(copy_of_line, *stages, DCPIPE_WORKERS="2")
    assert digests(copy_of_line) == digests(line)
    for stage in stages:  # features has one shard, which is not worth a worker
        assert (f"{stage}: workers of this machine: 2 x " in output) == (stage != "features")
    assert "Traceback" not in output and "distributed" not in output
    assert processes_in(copy_of_line.root) == [], "workers are left"


@pytest.fixture(scope="module")
def server(line: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(line, tmp_path_factory.mktemp("prefect"))
    yield started
    started.stop()


def test_shards_on_workers_are_tasks_of_prefect(line: Workspace, copy_of_line: Workspace, server: Server) -> None:
    again(copy_of_line, "softlabels", DCPIPE_WORKERS="2", DCPIPE_PREFECT="require", PREFECT_API_URL=server.url)
    assert digests(copy_of_line) == digests(line)
    runs = {run["name"]: run["state_type"] for run in server.query("flow_runs")}
    assert runs == {"softlabels of tiny-digits": "COMPLETED"}
    deadline, tasks = time.monotonic() + 30, set[str]()
    wanted = {f"softlabels[{shard:05d}]" for shard in range(15)}
    while not wanted <= tasks and time.monotonic() < deadline:  # they are recorded some seconds late
        tasks = {task["name"] for task in server.query("task_runs")}
        time.sleep(0.5)
    assert wanted <= tasks
    texts = {artifact["key"]: artifact["data"] for artifact in server.query("artifacts")}
    assert "dashboard http://127.0.0.1:" in texts["softlabels-workers"]


# --- a scheduler that is there ---


@pytest.fixture
def start(copy_of_line: Workspace, tmp_path: Path) -> Iterator[Callable[..., Scheduler]]:
    """Starts a scheduler with two workers in another folder than the workspace; it is ended after the test."""
    started: list[Scheduler] = []

    def begin(port: int | None = None) -> Scheduler:
        started.append(Scheduler(tmp_path, 2, env=copy_of_line.env, port=port))
        return started[-1]

    yield begin
    for scheduler in started:
        scheduler.kill()


def begun(copy_of_line: Workspace, pattern: str, process: subprocess.Popen[str]) -> None:
    """Wait for the first file of a stage in the notes of its scratch folder."""
    deadline = time.monotonic() + 240
    while not list((copy_of_line.root / ".dcpipe/scratch").glob(f"*/{pattern}")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_workers_of_a_scheduler_that_is_there_and_a_worker_that_is_killed(
    line: Workspace, copy_of_line: Workspace, start: Callable[..., Scheduler]
) -> None:
    theirs = start()
    again(
        copy_of_line, "softlabels", "compression", DCPIPE_WORKERS=theirs.address
    )  # others: on workers of this machine
    assert digests(copy_of_line) == digests(line)
    shutil.rmtree(copy_of_line.root / SHARDED["evaluation"])
    process = copy_of_line.start(sys.executable, "-m", "flows.evaluation", DCPIPE_WORKERS=theirs.address)
    begun(copy_of_line, "students-*/result-*.json", process)
    victims = theirs.workers()
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "Traceback" not in output, output
    assert digests(copy_of_line) == digests(line)


def test_a_scheduler_that_is_killed_stops_the_stage_and_a_rerun_goes_on(
    line: Workspace, copy_of_line: Workspace, start: Callable[..., Scheduler]
) -> None:
    theirs = start()
    shutil.rmtree(copy_of_line.root / SHARDED["evaluation"])
    process = copy_of_line.start(sys.executable, "-m", "flows.evaluation", DCPIPE_WORKERS=theirs.address)
    begun(copy_of_line, "students-*/result-*.json", process)
    theirs.kill_scheduler()
    output, _ = process.communicate(timeout=120)
    sentence = (
        f"evaluation: the Dask scheduler at {theirs.address} went away; what is finished is kept, start it again and "
        "run `dvc repro` to continue"
    )
    assert output.splitlines()[-1] == sentence and process.returncode == 1 and "Traceback" not in output, output
    theirs.kill()
    finished = (copy_of_line.root / ".dcpipe/scratch").glob("*/students-*/result-*.json")
    kept = {path: path.stat().st_mtime_ns for path in finished}
    assert kept and not (copy_of_line.root / SHARDED["evaluation"]).exists()
    again_there = start(theirs.port)
    process = copy_of_line.start(sys.executable, "-m", "flows.evaluation", DCPIPE_WORKERS=again_there.address)
    while process.poll() is None:
        changed = {path: path.stat().st_mtime_ns for path in kept if path.exists()}
        assert changed.items() <= kept.items(), "a student that was finished is trained again"
        time.sleep(0.2)
    assert process.returncode == 0, process.communicate()[0]
    process.communicate()
    assert digests(copy_of_line) == digests(line)
