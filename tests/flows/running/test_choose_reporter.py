"""Which reporter a run has, what is said of Prefect, and the tags of a run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer

from dcpipe.types import DataError
from flows.running import runtime
from flows.running.prefect_page import Prefect
from flows.running.reporting import Plain
from flows.running.runtime import choose_reporter
from flows.running.server import Server

NOBODY = "http://127.0.0.1:9/api"  # as in conftest.py


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.mark.parametrize("mode", ["off", "auto", None])
def test_without_a_server_stages_run_plainly(
    mode: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "dcpipe")
    if mode is not None:
        monkeypatch.setenv("DCPIPE_PREFECT", mode)
    reporter, url = choose_reporter("images", "images all", "fish")
    assert isinstance(reporter, Plain) and reporter.stage == "images" and url is None
    expected = [] if mode == "off" else [("INFO", f"no Prefect server at {NOBODY}; running without Prefect")]
    assert [(record.levelname, record.message) for record in caplog.records] == expected


def test_what_dvc_runs_says_nothing_of_prefect_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stage `sources` has said it, with which `dvc repro` begins."""
    caplog.set_level("DEBUG", "dcpipe")
    monkeypatch.setenv("DVC_STAGE", "images")
    choose_reporter("images", "images", "fish")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_require_stops_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_PREFECT", "require")
    sentence = f"^DCPIPE_PREFECT=require but no Prefect server at {NOBODY}; run `prefect server start`$"
    with pytest.raises(DataError, match=sentence):
        choose_reporter("images", "images", "fish")


@pytest.mark.parametrize("mode", ["on", "", "AUTO"])
def test_other_modes_are_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_PREFECT", mode)
    with pytest.raises(DataError, match=f"^DCPIPE_PREFECT is '{mode}'; use one of auto, require, off$"):
        choose_reporter("images", "images", "fish")


@pytest.mark.parametrize("mode", ["auto", "require", "off"])
def test_with_a_server_stages_run_in_it_unless_it_is_switched_off(
    mode: str, monkeypatch: pytest.MonkeyPatch, server: FakeServer
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("DCPIPE_PREFECT", mode)
    reporter, used = choose_reporter("images", "images", "fish")
    if mode == "off":
        assert isinstance(reporter, Plain) and used is None and server.asked == []
    else:
        assert isinstance(reporter, Prefect) and used == Server(server.url)
        assert os.environ["PREFECT_API_URL"] == server.url and server.asked == ["/api/flows/filter"]


def test_a_sick_server_is_named_and_not_used(
    monkeypatch: pytest.MonkeyPatch, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dcpipe")
    server.status = 500
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    reporter, used = choose_reporter("images", "images", "fish")
    assert isinstance(reporter, Plain) and used is None
    expected = f"the Prefect server at {server.url} does not work (status 500); running without Prefect"
    assert caplog.messages == [expected]


def test_a_run_is_tagged_by_release_workspace_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runtime.tags_of("fish") == ["release fish", f"workspace {tmp_path}"]
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "start"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    *_, commit = runtime.tags_of("fish")
    assert commit.startswith("commit ") and head.startswith(commit.removeprefix("commit "))
