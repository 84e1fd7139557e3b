"""With a real Prefect server on loopback: runs, tasks, progress and artifacts are found through its API, its page opens
in a browser, and a server that dies does not take the work with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from fake_server import FakeServer
from workspaces import TINY, Workspace, stages_run

from dcpipe import store

pytestmark = pytest.mark.pipeline


class Server:
    """A Prefect server of a test's own."""

    def __init__(self, workspace: Workspace, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.process = workspace.start(
            "prefect",
            "server",
            "start",
            "--port",
            str(self.port),
            PREFECT_HOME=str(home),
            PREFECT_LOGGING_SERVER_LEVEL="ERROR",
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.5)
        self.stop()
        raise AssertionError("the Prefect server did not start in two minutes")

    def query(self, what: str) -> list[dict[str, Any]]:
        """All of flow_runs, task_runs, artifacts or logs."""
        request = urllib.request.Request(
            f"{self.url}/{what}/filter", data=b'{"limit": 200}', headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: list[dict[str, Any]] = json.load(answer)
            return content

    def stop(self) -> None:
        """End it and everything it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def server(line: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(line, tmp_path_factory.mktemp("prefect"))
    yield started
    started.stop()


def wait_for(server: Server, what: str, wanted: int) -> list[dict[str, Any]]:
    """Task runs are recorded some seconds late."""
    deadline = time.monotonic() + 30
    found: list[dict[str, Any]] = []
    while len(found) < wanted and time.monotonic() < deadline:
        found = server.query(what)
        time.sleep(0.5)
    return found


def test_a_stage_shows_its_run_tasks_progress_and_artifacts(copy_of_line: Workspace, server: Server) -> None:
    unbroken = store.open_artifact(copy_of_line.root / "data/softlabels", "softlabels").digest
    shutil.rmtree(copy_of_line.root / "data/softlabels")
    shutil.rmtree(copy_of_line.root / "data/synthesis")
    with_server = {"DCPIPE_PREFECT": "require", "PREFECT_API_URL": server.url}
    copy_of_line.stage("synthesis", **with_server)
    copy_of_line.stage("softlabels", **with_server)
    assert store.open_artifact(copy_of_line.root / "data/softlabels", "softlabels").digest == unbroken
    runs = {run["name"]: run for run in server.query("flow_runs")}
    assert runs["softlabels of tiny-digits"]["state_type"] == "COMPLETED"
    assert runs["synthesis of tiny-digits"]["state_type"] == "COMPLETED"
    tasks = [task["name"] for task in wait_for(server, "task_runs", 17)]
    assert {f"softlabels[{shard:05d}]" for shard in range(15)} <= set(tasks)
    assert "synthesise[none]" in tasks
    artifacts = {artifact["key"]: artifact for artifact in server.query("artifacts")}
    assert artifacts["softlabels-progress"]["type"] == "progress"
    assert float(artifacts["softlabels-progress"]["data"]) == 100.0
    assert artifacts["softlabels-progress"]["description"] == "softlabels: 15/15"
    assert {f"workspace {copy_of_line.root}", "release tiny-digits"} <= set(runs["softlabels of tiny-digits"]["tags"])
    assert str(artifacts["synthesis-condensed-images"]["data"]).startswith("data:image/png;base64,")
    shown = runs["softlabels of tiny-digits"]["parameters"]
    assert shown == {"params": TINY["softlabels"] | shown["params"], "device": "cpu", "workers": ""}
    inputs = {row["input"]: row["digest"] for row in json.loads(artifacts["softlabels-inputs"]["data"])}
    assert inputs["synthesis"] == store.open_artifact(copy_of_line.root / "data/synthesis", "synthesis").digest


def test_a_stage_can_be_called_as_the_flow_that_it_is(copy_of_line: Workspace, server: Server) -> None:
    """Then it is recorded, so that `dvc repro` has nothing to do for it."""
    copy_of_line.params(compression={"codec": "prune", "ratio": 3})
    call = "from flows.deployments import compression; compression()"
    copy_of_line.run(sys.executable, "-c", call, PREFECT_API_URL=server.url)
    assert copy_of_line.run("dvc", "status", "compression").count("compression:") == 0
    assert "compression" not in stages_run(copy_of_line.run("dvc", "repro", "compression"))


def test_a_failing_stage_names_task_and_input(copy_of_line: Workspace, server: Server) -> None:
    copy_of_line.params(selection={"method": "score", "ipc": 500})
    output = copy_of_line.run(
        sys.executable, "-m", "flows.selection", ok=False, DCPIPE_PREFECT="require", PREFECT_API_URL=server.url
    )
    assert "selection.ipc is 500 but class" in output
    assert "Traceback" not in output and output.count("selection.ipc is 500") == 1
    failed = [run for run in server.query("flow_runs") if run["name"] == "selection of tiny-digits"]
    assert [run["state_type"] for run in failed] == ["FAILED"]
    assert failed[0]["state"]["message"].startswith("selection.ipc is 500 but class")


def test_a_missing_input_is_one_sentence_in_the_terminal_and_on_the_page(
    copy_of_line: Workspace, server: Server
) -> None:
    shutil.rmtree(copy_of_line.root / "data/softlabels")
    output = copy_of_line.run(
        sys.executable, "-m", "flows.compression", ok=False, DCPIPE_PREFECT="require", PREFECT_API_URL=server.url
    )
    sentence = "data/softlabels contains no softlabels (no artifact.json); run `dvc repro` or `dvc pull` to make it"
    assert output.splitlines()[-1] == f"compression: {sentence}" and "Traceback" not in output
    [run] = [run for run in server.query("flow_runs") if run["state"]["message"] == sentence]
    told = [log["message"] for log in server.query("logs") if log["flow_run_id"] == run["id"]]
    assert not any("Traceback" in message for message in told)


def test_messages_of_a_stage_are_in_the_log_of_its_run(copy_of_line: Workspace, server: Server) -> None:
    """Loss, accuracy and bytes."""
    shutil.rmtree(copy_of_line.root / "data/teacher/convnet")
    shutil.rmtree(copy_of_line.root / "data/compression")
    with_server = {"DCPIPE_PREFECT": "require", "PREFECT_API_URL": server.url}
    copy_of_line.stage("teacher", "convnet", **with_server)
    copy_of_line.stage("compression", **with_server)
    told = {log["message"]: log for log in server.query("logs") if log["name"].startswith("dcpipe.flows.")}
    assert any(message.startswith("teacher convnet: epoch 6/6, loss 0.") for message in told)
    assert any(message.startswith("convnet-d2-w8, accuracy on minival") for message in told)
    assert any(" bytes, " in message and message.startswith("svd ") for message in told)
    assert all(log["flow_run_id"] for log in told.values())


def test_the_line_runs_as_one_flow(copy_of_line: Workspace, server: Server) -> None:
    copy_of_line.params(release={**TINY["release"], "licence": "CC0-1.0"})
    copy_of_line.run(sys.executable, "-m", "flows.condense", PREFECT_API_URL=server.url, DCPIPE_PREFECT="auto")
    runs = {run["name"]: run for run in server.query("flow_runs")}
    assert runs["condense tiny-digits"]["state_type"] == "COMPLETED"
    assert runs["release of tiny-digits"]["state_type"] == "COMPLETED"
    whole = runs["condense tiny-digits"]["id"]
    parts = {task["id"]: task["name"] for task in server.query("task_runs") if task["flow_run_id"] == whole}
    assert parts[runs["release of tiny-digits"]["parent_task_run_id"]] == "repro[release]"
    stages = [artifact for artifact in server.query("artifacts") if artifact["key"] == "condense-stages"]
    rows = json.loads(max(stages, key=lambda artifact: artifact["created"])["data"])
    outcome = {row["stage"]: row["outcome"] for row in rows}
    assert outcome["images"] == "skipped" and outcome["release"] == "made"
    assert stages_run(copy_of_line.run("dvc", "repro")) == []


def test_the_run_page_opens_in_a_browser(copy_of_line: Workspace, server: Server, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine; install Debian's package chromium to run this test")
    copy_of_line.params(compression={"codec": "prune", "ratio": 2})
    copy_of_line.stage("compression", DCPIPE_PREFECT="require", PREFECT_API_URL=server.url)
    runs = [run for run in server.query("flow_runs") if run["name"] == "compression of tiny-digits"]
    run = next(run for run in runs if run["parameters"]["params"]["codec"] == "prune")
    page = f"http://127.0.0.1:{server.port}/runs/flow-run/{run['id']}"
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--window-size=1400,1000",
        "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}",
    )  # fmt: skip
    shot = tmp_path / "run.png"
    subprocess.run([browser, *flags, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=120)
    dom, parameters = (
        subprocess.run(
            [browser, *flags, "--dump-dom", address], check=True, capture_output=True, text=True, timeout=120
        ).stdout
        for address in (page, f"{page}?tab=Parameters")
    )
    assert shot.stat().st_size > 10_000
    assert "compression of tiny-digits" in dom and "release tiny-digits" in dom
    assert "prune" in dom and "bits per class" in dom, "the Logs tab has no messages"
    assert "bytes_per_image" in parameters, "the Parameters tab is empty"
    assert "Can't connect to Server API" not in dom


def test_without_a_server_it_runs_plainly_and_says_so_once(copy_of_line: Workspace) -> None:
    nobody = "http://127.0.0.1:9/api"
    output = copy_of_line.stage("selection", DCPIPE_PREFECT="auto", PREFECT_API_URL=nobody)
    assert output.count(f"selection: no Prefect server at {nobody}; running without Prefect") == 1
    refused = copy_of_line.run(
        sys.executable, "-m", "flows.selection", ok=False, DCPIPE_PREFECT="require", PREFECT_API_URL=nobody
    )
    assert f"DCPIPE_PREFECT=require but no Prefect server at {nobody}" in refused


def test_a_server_that_dies_does_not_stop_the_work(copy_of_line: Workspace, tmp_path: Path) -> None:
    mortal = Server(copy_of_line, tmp_path / "home")
    copy_of_line.params(evaluation={**TINY["evaluation"], "epochs": 40})
    started = time.monotonic()
    process = copy_of_line.start(
        sys.executable, "-m", "flows.evaluation", DCPIPE_PREFECT="require", PREFECT_API_URL=mortal.url
    )
    notes = copy_of_line.root / ".dcpipe/scratch"
    while not list(notes.glob("*.notes/students-*/result-*.json")):
        assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.1)
    mortal.stop()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert len(store.load_scores(copy_of_line.root / "data/evaluation/scores")) == 5
    assert "cannot report to Prefect" in output or "Prefect failed" in output or "Prefect does not answer" in output


@pytest.mark.parametrize("otherwise", [500, "silence"])
def test_a_server_that_is_healthy_but_fails_does_not_hold_up_the_work(
    copy_of_line: Workspace, otherwise: int | Literal["silence"]
) -> None:
    unbroken = store.open_artifact(copy_of_line.root / "data/selection", "selection").digest
    shutil.rmtree(copy_of_line.root / "data/selection")
    with FakeServer(otherwise) as server:
        output = copy_of_line.stage("selection", DCPIPE_PREFECT="auto", PREFECT_API_URL=server.url)
    assert "selection: Prefect failed (" in output and "continuing without it" in output
    assert "Traceback" not in output
    assert store.open_artifact(copy_of_line.root / "data/selection", "selection").digest == unbroken
