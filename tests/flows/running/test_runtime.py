"""How a stage runs: its reporter, its staging folder, the exit of its command, and a server that dies."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from dcpipe import store
from dcpipe.config import params, presets
from dcpipe.types import DataError
from flows.running import runtime
from flows.running.inputs import Inputs
from flows.running.reporting import Plain, Prefect
from flows.running.runtime import Run, choose_reporter, server_answers

NOBODY = "http://127.0.0.1:9/api"


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOBODY)
    monkeypatch.delenv("DCPIPE_PREFECT", raising=False)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str], list[int]]]:
    """Address, paths asked for, and the status to answer with (the last of the list)."""
    asked: list[str] = []
    status = [200]

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status[-1])
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/api", asked, status
        served.shutdown()
        thread.join()


# --- is a server there? ---


def test_a_server_answers_when_its_health_check_does(server: tuple[str, list[str], list[int]]) -> None:
    url, asked, status = server
    assert server_answers(url) and server_answers(f"{url}/")
    assert asked == ["/api/health", "/api/health"]
    for code in (500, 404, 204):
        status.append(code)
        assert not server_answers(url)


@pytest.mark.parametrize("url", [NOBODY, "http://127.0.0.1:port/api", "127.0.0.1:9", "", "nonsense://x"])
def test_no_server_answers_where_there_is_none(url: str) -> None:
    assert not server_answers(url)


def test_what_answers_but_speaks_no_http_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            with listening.accept()[0] as caller:
                caller.recv(1000)
                caller.sendall(b"SSH-2.0-something\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        assert not server_answers(f"http://127.0.0.1:{listening.getsockname()[1]}/api")
        thread.join()


# --- which reporter? ---


@pytest.mark.parametrize("mode", ["off", "auto", None])
def test_without_a_server_stages_run_plainly(
    mode: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if mode is not None:
        monkeypatch.setenv("DCPIPE_PREFECT", mode)
    reporter, url = choose_reporter("images", "images all")
    assert isinstance(reporter, Plain) and reporter.stage == "images" and url == ""
    expected = "" if mode == "off" else f"images all: no Prefect server at {NOBODY}; running without Prefect\n"
    assert capsys.readouterr() == ("", expected)


def test_require_stops_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_PREFECT", "require")
    sentence = f"^DCPIPE_PREFECT=require but no Prefect server answers at {NOBODY}; run `prefect server start`$"
    with pytest.raises(DataError, match=sentence):
        choose_reporter("images", "images")


@pytest.mark.parametrize("mode", ["on", "", "AUTO"])
def test_other_modes_are_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_PREFECT", mode)
    with pytest.raises(DataError, match=f"^DCPIPE_PREFECT is '{mode}'; use one of auto, require, off$"):
        choose_reporter("images", "images")


@pytest.mark.parametrize("mode", ["auto", "require", "off"])
def test_with_a_server_stages_run_in_it_unless_it_is_switched_off(
    mode: str, monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str], list[int]]
) -> None:
    url, asked, _ = server
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("DCPIPE_PREFECT", mode)
    reporter, used = choose_reporter("images", "images")
    if mode == "off":
        assert isinstance(reporter, Plain) and used == "" and asked == []
    else:
        assert isinstance(reporter, Prefect) and used == url == os.environ["PREFECT_API_URL"]


def test_the_default_address_is_asked_where_none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    asked: list[str] = []
    monkeypatch.setattr(runtime, "server_answers", lambda url: bool(asked.append(url)))
    choose_reporter("images", "images")
    assert asked == ["http://127.0.0.1:4200/api"] and "PREFECT_API_URL" not in os.environ


# --- a run ---


def settings() -> params.Params:
    return params.parse(yaml.safe_load(presets.text("digits")))


def make_run() -> Run:
    return Run("selection", settings(), Plain("selection"), "selection")


def test_a_staging_folder_depends_on_parameters_inputs_and_code(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_DEVICE", "cpu")
    inputs = Inputs({name: store.Artifact(Path(name), name, {}, {}, {}, f"digest of {name}") for name in ("b", "a")})
    with make_run().staging("data/selection", {"ipc": 2}, inputs) as staging:
        assert list(staging.lineage["inputs"].items()) == [("a", "digest of a"), ("b", "digest of b")]
        assert staging.lineage["stage"] == "selection" and staging.lineage["params"] == {"ipc": 2}
        assert staging.lineage["device"] == "cpu"
        assert {"dcpipe", "numpy", "torch", "zarr"} <= set(staging.lineage["versions"])
        first = staging.root
        assert first.parent == scratch
    with make_run().staging("data/selection", {"ipc": 2}, inputs) as staging:
        assert staging.root == first  # what a killed run left is found again
    with make_run().staging("data/selection", {"ipc": 3}, inputs) as staging:
        assert staging.root != first
    monkeypatch.setattr(runtime, "code_digest", lambda module: f"other code of {module}")
    with make_run().staging("data/selection", {"ipc": 2}, inputs) as staging:
        assert staging.root != first and staging.lineage["code"] == "other code of flows.selection"


def test_a_run_maps_through_its_reporter() -> None:
    assert make_run().map(lambda i: -i, [1, 2], str) == [-1, -2]


# --- a command ---


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(presets.text("digits"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCPIPE_PREFECT", "off")
    monkeypatch.setenv("DCPIPE_DEVICE", "cpu")
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, stage: Callable[..., None], *keys: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", *keys])
    runtime.main(stage, "teacher", keyed=bool(keys))


def test_a_command_hands_the_stage_its_run_and_key(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[object] = []

    def stage(run: Run, key: str) -> None:
        seen.extend([run.stage, run.name, run.params.release.name, run.device.type, key])

    command(monkeypatch, stage, "main")
    assert seen == ["teacher", "teacher main", settings().release.name, "cpu", "main"]
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("teacher main: done in ") and err.endswith(" s\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DataError("row 3 is not an image; remove it"), "teacher: row 3 is not an image; remove it\n"),
        (MemoryError(), "teacher: out of memory; lower the stage's batch_size\n"),
        (
            OSError(28, "No space left on device"),
            "teacher: the disk is full ([Errno 28] No space left on device); "
            "free space, then run `dvc repro` to continue\n",
        ),
    ],
)
def test_what_a_person_can_mend_ends_in_one_sentence(
    error: Exception,
    sentence: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stage(run: Run) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, stage)
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), KeyError("x")])
def test_what_nobody_foresaw_keeps_its_traceback(
    error: Exception, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(run: Run) -> None:
        raise error

    with pytest.raises(type(error)):
        command(monkeypatch, stage)


def test_a_missing_parameter_file_ends_in_one_sentence(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "params.yaml").unlink()
    with pytest.raises(SystemExit):
        command(monkeypatch, lambda run: None)
    assert capsys.readouterr().err.startswith("teacher: params.yaml not found; run `dcpipe init PRESET`")


# --- a server that dies ---


class Dying(Prefect):
    """A server that goes away before or after the stage's work, or never."""

    def __init__(self, when: str) -> None:
        super().__init__("teacher")
        self.when = when

    def run_flow(self, body: Callable[[], None], name: str) -> None:
        if self.when == "before":
            raise ConnectionError("gone")
        body()
        if self.when == "after":
            raise ConnectionError("gone")


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_a_server_that_dies_costs_no_work_and_none_is_done_twice(
    when: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[type] = []
    left: list[str] = []
    alive = when == "never"
    monkeypatch.setattr(runtime, "choose_reporter", lambda stage, name: (Dying(when), NOBODY))
    monkeypatch.setattr(runtime, "server_answers", lambda url: alive)
    monkeypatch.setattr(runtime, "_leave", left.append)
    monkeypatch.setattr(runtime, "_leave_if_server_died", lambda name, url: None)
    command(monkeypatch, lambda run: done.append(type(run.reporter)))
    assert done == [Plain if when == "before" else Dying]
    assert left == ([] if alive else ["teacher"])
    told = "teacher: the Prefect server went away (ConnectionError); continuing without it"
    assert (told in capsys.readouterr().err) == (not alive)


@pytest.mark.parametrize("error", [DataError("bad row"), KeyError("a bug")])
def test_a_failure_of_the_stage_itself_is_not_the_servers(
    error: Exception, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def stage(run: Run) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(runtime, "choose_reporter", lambda stage, name: (Dying("never"), NOBODY))
    monkeypatch.setattr(runtime, "server_answers", lambda url: True)
    with pytest.raises(type(error)):
        runtime.run_stage(stage, "teacher")
    assert calls == [1]


def test_bad_data_is_not_tried_again_where_the_server_died_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with the data stays wrong without a server: one run, one sentence."""
    calls: list[type] = []

    def stage(run: Run) -> None:
        calls.append(type(run.reporter))
        raise DataError("row 3 is not an image; remove it")

    monkeypatch.setattr(runtime, "choose_reporter", lambda stage, name: (Dying("never"), NOBODY))
    monkeypatch.setattr(runtime, "server_answers", lambda url: False)
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, stage)
    assert ended.value.code == 1 and calls == [Dying]
    assert capsys.readouterr() == ("", "teacher: row 3 is not an image; remove it\n")
