"""How a stage runs: its reporter, its staging folder, the exit of its command, and a server that dies."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcpipe import store
from dcpipe.config import params, presets
from dcpipe.shards import Group, cluster, in_turn
from dcpipe.types import DataError
from flows.running import runtime
from flows.running.inputs import Inputs
from flows.running.prefect_page import Prefect, ServerError
from flows.running.reporting import Plain
from flows.running.runtime import Run
from flows.running.server import Server

NOBODY = "http://127.0.0.1:9/api"


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


class Workers:
    """Stands for a cluster: it keeps what is sent."""

    def __init__(self, workers: Any, device: Any) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.slots, self.closed = 2, 0
        started.append(self)

    def describe(self) -> str:
        return "workers: 2 x chip"

    def call_group(self, work: Callable[[Any], Any], retries: int, group: Group[Any]) -> list[Any]:
        self.sent.append((group.items, group.name, retries))
        return in_turn(work, group.items)

    def close(self) -> None:
        self.closed += 1


started: list[Workers] = []


def double(item: int) -> int:
    return 2 * item


@pytest.fixture
def run_with_workers(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(cluster, "Cluster", Workers)
    monkeypatch.setenv("DCPIPE_WORKERS", "2")
    started.clear()
    return make_run()


def test_shards_are_sent_to_workers_and_other_functions_run_here(
    run_with_workers: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dcpipe")
    run = run_with_workers
    assert run.map(lambda item: -item, [1, 2], str) == [-1, -2] and run.map(double, [4], str) == [8]
    assert started == [], "workers are started for nothing"
    run.close()
    items = list(range(5))
    assert run.map(double, items, "part[{}]".format, retries=2, workers=1) == [0, 2, 4, 6, 8]
    assert run.map(double, [], str) == [] and run.map(double, [1, 2], str) == [2, 4]
    [cluster] = started
    assert sorted(cluster.sent[:5]) == [([item], f"part[{item}]", 2) for item in items] and len(cluster.sent) == 7
    assert caplog.messages == ["workers: 2 x chip"]
    run.close()
    assert cluster.closed == 1


def test_a_single_shard_is_sent_to_other_machines(run_with_workers: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a GPU, and none here."""
    monkeypatch.setenv("DCPIPE_WORKERS", "tcp://127.0.0.1:8786")
    assert make_run().map(double, [4], str) == [8] and len(started) == 1


def test_wrong_workers_stop_a_stage_before_any_work(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCPIPE_WORKERS", "many")
    with pytest.raises(SystemExit):
        command(monkeypatch, lambda run: None)
    assert capsys.readouterr().err.startswith("teacher: DCPIPE_WORKERS is 'many'; give a number of workers from 1 to")


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
            "teacher: the disk is full (No space left on device); free space, then run `dvc repro` to continue\n",
        ),
        (
            PermissionError(13, "Permission denied", "data/x"),
            "teacher: no permission for data/x (Permission denied); change its rights, or choose another place, then "
            "run `dvc repro` to continue\n",
        ),
        (
            shutil.Error([("a/b", "c/b", "[Errno 28] No space left on device: 'c/b'")]),
            "teacher: the disk is full at a/b ([Errno 28] No space left on device: 'c/b'); free space, then run "
            "`dvc repro` to continue\n",
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


@pytest.mark.parametrize("error", [RuntimeError("denied"), KeyError("x")])
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


class Fake(Server):
    """A server with this problem."""

    def __init__(self, problem: str) -> None:
        super().__init__(NOBODY)
        object.__setattr__(self, "answer", problem)

    def problem(self) -> str:
        return str(vars(self)["answer"])


class Dying(Prefect):
    """A server that goes away before or after the stage's work, or never."""

    def __init__(self, when: str) -> None:
        super().__init__("teacher")
        self.when, self.alive = when, False

    def run_flow(self, flow: Any, name: str, parameters: Mapping[str, Any]) -> None:
        assert flow.name == self.stage and parameters["params"] and parameters["device"] == "cpu"
        if self.when == "before":
            raise ConnectionError("gone")
        flow.fn(**parameters)
        if self.when == "after":
            raise ConnectionError("gone")


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_a_server_that_dies_costs_no_work_and_none_is_done_twice(
    when: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[type] = []
    left: list[str] = []
    alive = when == "never"
    fake = Fake("" if alive else "no Prefect server")
    monkeypatch.setattr(runtime, "choose_reporter", lambda stage, name, release: (Dying(when), fake))
    monkeypatch.setattr(runtime, "_leave", lambda: left.append("left"))
    command(monkeypatch, lambda run, key: done.append(type(run.reporter)), "main")
    assert done == [Plain if when == "before" else Dying]
    assert bool(left) == (not alive)
    message = "teacher main: Prefect failed (ConnectionError); continuing without it"
    assert (message in capsys.readouterr().err) == (not alive)


def test_prefect_that_fails_amid_the_work_is_left_and_the_work_continues(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server is healthy, but a call in the middle of the stage failed."""
    done: list[type] = []

    def stage(run: Run, key: str) -> None:
        done.append(type(run.reporter))
        if not isinstance(run.reporter, Plain):
            raise ServerError("HTTPStatusError in Prefect") from OSError("500")

    monkeypatch.setattr(runtime, "choose_reporter", lambda stage, name, release: (Dying("never"), Fake("")))
    monkeypatch.setattr(runtime, "_leave", lambda: None)
    command(monkeypatch, stage, "main")
    assert done == [Dying, Plain]
    assert "teacher main: Prefect failed (OSError); continuing without it" in capsys.readouterr().err


def test_a_server_that_holds_a_finished_run_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    returned = threading.Event()
    monkeypatch.setattr(runtime, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(runtime, "_leave", lambda: left.append("left"))
    runtime._leave_unless(returned)
    returned.set()
    runtime._leave_unless(returned)
    assert left == ["left"]


@pytest.mark.parametrize("error", [DataError("bad row"), KeyError("a bug")])
def test_a_failure_of_the_stage_itself_is_not_the_servers(
    error: Exception, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def stage(run: Run, key: str) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(runtime, "choose_reporter", lambda stage, name, release: (Dying("never"), Fake("")))
    with pytest.raises(type(error)):
        runtime.run_stage(stage, "teacher", "main")
    assert calls == [1]


def test_bad_data_is_not_tried_again_where_the_server_died_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with the data stays wrong without a server: one run, one sentence."""
    calls: list[type] = []

    def stage(run: Run, key: str) -> None:
        calls.append(type(run.reporter))
        raise DataError("row 3 is not an image; remove it")

    monkeypatch.setattr(
        runtime, "choose_reporter", lambda stage, name, release: (Dying("never"), Fake("no Prefect server"))
    )
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, stage, "main")
    assert ended.value.code == 1 and calls == [Dying]
    assert capsys.readouterr() == ("", "teacher main: row 3 is not an image; remove it\n")
