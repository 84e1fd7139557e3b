"""Inside a worker: it becomes like the process that sends shards, or says why it cannot; what it returns can be read
anywhere."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shard_cases
import torch

from dcpipe.config.registry import UnknownNameError
from dcpipe.shards import progress, remote
from dcpipe.shards.progress import Step
from dcpipe.shards.remote import Call, Seldom, Setting, prepare, run, setting_of
from dcpipe.types import BudgetError, DataError, NotApplicableError

CPU = torch.device("cpu")
WHERE = "tcp://10.0.0.2:4444"


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    threads, folder = torch.get_num_threads(), Path.cwd()
    prepare.cache_clear()
    yield
    prepare.cache_clear()
    torch.set_num_threads(threads)
    os.chdir(folder)


def sent(work: Any, item: Any, setting: Setting | None = None, retries: int = 0) -> tuple[bool, Any]:
    return run(Call(work, item, "part[7]", retries, setting or setting_of(CPU)), WHERE, lambda event: None)


def refusal(setting: Setting) -> str:
    done, error = sent(shard_cases.square, 3, setting)
    assert not done and type(error) is DataError
    return str(error)


def test_a_setting_names_folder_versions_threads_and_device() -> None:
    setting = setting_of(torch.device("cuda"))
    assert (setting.workspace, setting.threads, setting.device) == (str(Path.cwd()), torch.get_num_threads(), "cuda")
    names = [name for name, _ in setting.versions]
    assert names == ["Python", "numpy", "pillow", "pyarrow", "torch", "torchvision", "zarr", "dcpipe's source"]
    assert re.fullmatch(r"3\.\d+", setting.versions[0][1]) and re.fullmatch(r"[0-9a-f]{12}", setting.versions[-1][1])


def test_a_shard_returns_its_result() -> None:
    assert sent(shard_cases.square, 3) == (True, 9)


@pytest.mark.parametrize("name", ["Python", "torch", "dcpipe's source"])
def test_another_version_is_refused(name: str) -> None:
    setting = setting_of(CPU)
    found = dict(setting.versions)[name]
    other = tuple((key, "0.0" if key == name else value) for key, value in setting.versions)
    assert refusal(replace(setting, versions=other)) == (
        f"worker {WHERE} has {name} {found}, but this process has 0.0; install the same versions everywhere and start "
        "the workers again"
    )


def test_a_workspace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    setting = replace(setting_of(CPU), workspace=str(tmp_path / "absent"))
    assert refusal(setting) == (
        f"worker {WHERE} does not see {tmp_path / 'absent'}; workers on other machines need the workspace and "
        "DCPIPE_SCRATCH on a file system that they share"
    )


def test_a_worker_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(setting_of(torch.device("cuda"))) == (
        f"worker {WHERE} has no CUDA device; start workers where there are GPUs, or set DCPIPE_DEVICE=cpu"
    )


def test_a_worker_takes_threads_and_folder_of_whoever_sent_the_last_shard(tmp_path: Path) -> None:
    """Results of training depend on the threads: two processes that take turns at one worker must not share them."""
    for threads, name in [(1, "a"), (2, "b"), (1, "a")]:
        (tmp_path / name).mkdir(exist_ok=True)
        setting = replace(setting_of(CPU), threads=threads, workspace=str(tmp_path / name))
        done, (_, folder, found) = sent(shard_cases.state, 0, setting)
        assert done and (folder, found) == (str(tmp_path / name), str(threads))


def test_errors_of_a_disk_are_tried_again_in_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcpipe.shards.attempts.PAUSE_SECONDS", 0.0)
    assert sent(shard_cases.away, str(tmp_path), retries=2) == (True, 3)


class OddError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__("two arguments")


ERRORS = {
    "data": (DataError("bad row"), DataError, "bad row"),
    "budget": (BudgetError("too small"), BudgetError, "too small"),
    "name": (UnknownNameError("unknown codec"), UnknownNameError, "unknown codec"),
    "nothing": (NotApplicableError("nothing to do"), NotApplicableError, "nothing to do"),
    "memory": (MemoryError(), MemoryError, ""),
    "disk": (FileNotFoundError(2, "No such file", "data/x"), FileNotFoundError, "[Errno 2] No such file: 'data/x'"),
    "bug": (OddError(1, 2), RuntimeError, "OddError: two arguments"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_can_be_read_by_every_process(case: str) -> None:
    """What a command turns into a sentence keeps its class; a bug keeps its traceback."""
    error, kind, text = ERRORS[case]

    def work(item: int) -> None:
        raise error

    done, returned = sent(work, 3)
    read = pickle.loads(pickle.dumps(returned))
    assert not done and type(read) is kind
    assert str(read).split("\nTraceback")[0] == text
    if kind is RuntimeError:
        assert "in work" in str(read) and str(read).endswith("in task part[7]\n")
    else:
        assert read.__notes__ == ["in task part[7]"]


def test_reports_are_passed_on_seldom_but_the_last_one_always(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = [100.0], list[Any]()
    monkeypatch.setattr(remote.time, "monotonic", lambda: clock[0])
    sink = Seldom(seen.append)
    for done in range(1, 11):
        sink(Step("a", done, 10, "x"))
        sink(Step("b", done, 20))
        clock[0] += 0.3
    assert [step.done for step in seen if step.title == "a"] == [1, 5, 9, 10]
    assert [step.done for step in seen if step.title == "b"] == [1, 5, 9]
    sink(Step("a", 10, 10, "y"))
    assert seen[-1] == Step("a", 10, 10, "y")


def test_epochs_are_all_passed_on_for_those_who_draw_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote.time, "monotonic", lambda: 100.0)
    seen: list[Step] = []
    sink = Seldom(seen.append)
    for done in range(1, 5):
        sink(Step("a", done, 10, values={"loss": 0.5}))
    assert [step.done for step in seen] == [1, 2, 3, 4]


def test_progress_and_messages_of_a_shard_arrive_where_it_was_sent_from(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[remote.Event] = []
    call = Call(shard_cases.talking, 3, "part[7]", 0, setting_of(CPU))
    assert run(call, WHERE, lambda event: sent.append(json.loads(json.dumps(event)))) == (True, 3)
    assert caplog.messages == [], "a worker shows nothing itself"
    steps: list[Step] = []
    caplog.set_level(logging.DEBUG, "dcpipe")
    with progress.reporting_to(steps.append):
        for event in sent:
            remote.tell(event)
    assert steps == [Step("talking", 1, 3, values={"loss": 0.25}, unit="epoch")]
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("dcpipe.talking", "WARNING", f"worker {WHERE}: 3 % of it is odd")
    ]


def test_the_name_of_a_device() -> None:
    assert remote.device_name(setting_of(CPU)).endswith(", CPU")
