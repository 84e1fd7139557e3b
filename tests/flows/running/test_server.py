"""Where the Prefect server is, and whether it can be used."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer

from flows.running import server as module
from flows.running.server import CLIENT, DEFAULT_API, Server, configured, prepare_client

NOBODY = "http://127.0.0.1:9/api"
VARIABLES = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_PROFILES_PATH")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as made:
        yield made


def test_a_server_that_answers_a_question_can_be_used(fake: FakeServer) -> None:
    assert Server(fake.url).problem() == "" and Server(f"{fake.url}/").problem() == ""
    assert fake.asked == ["/api/flows/filter"] * 2


@pytest.mark.parametrize("status", [500, 404, 503])
def test_a_server_that_answers_with_an_error_is_sick(fake: FakeServer, status: int) -> None:
    fake.status = status
    assert Server(fake.url).problem() == f"the Prefect server at {fake.url} does not work (status {status})"


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_key_says_so(fake: FakeServer, status: int) -> None:
    fake.status = status
    sentence = f"the Prefect server at {fake.url} requires a key: set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
    assert Server(fake.url).problem() == sentence


def test_a_server_that_accepts_and_stays_silent_is_given_up(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    fake.open.clear()
    assert Server(fake.url).problem() == f"the Prefect server at {fake.url} does not work (no answer in 0.2 s)"


@pytest.mark.parametrize("url", [NOBODY, "http://127.0.0.1:port/api", "127.0.0.1:9", "nonsense", "nonsense://x"])
def test_where_nothing_answers_there_is_no_server(url: str) -> None:
    assert Server(url).problem() == f"no Prefect server at {url}"


def test_what_answers_but_does_not_speak_http_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            with listening.accept()[0] as caller:
                caller.recv(1000)
                caller.sendall(b"SSH-2.0-something\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        assert Server(url).problem() == f"no Prefect server at {url}"
        thread.join()


def test_without_settings_it_is_the_default_address() -> None:
    assert configured() == Server(DEFAULT_API)


def test_variables_give_address_and_key(monkeypatch: pytest.MonkeyPatch, fake: FakeServer) -> None:
    monkeypatch.setenv("PREFECT_API_URL", fake.url)
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    server = configured()
    assert server.problem() == "" and fake.keys == ["Bearer secret"] and "secret" not in repr(server)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pass")
    assert configured().problem() == "" and fake.keys[1] == f"Basic {base64.b64encode(b'admin:pass').decode()}"


def test_the_active_profile_gives_address_and_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `prefect config set` writes it. Prefect reads it once per process, so its reading is replaced here."""
    pytest.importorskip("prefect")
    from prefect.settings import Settings

    (tmp_path / ".prefect").mkdir(exist_ok=True)
    (tmp_path / ".prefect" / "profiles.toml").write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:4299/api"\nPREFECT_API_KEY = "k"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ".prefect"))
    monkeypatch.setattr("prefect.settings.get_current_settings", lambda: Settings())
    assert configured() == Server("http://127.0.0.1:4299/api", "k")


def test_the_clients_waits_are_short_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    name, other = CLIENT
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv(name, "40")
    monkeypatch.delenv(other, raising=False)
    prepare_client(Server(NOBODY))
    assert os.environ["PREFECT_API_URL"] == NOBODY
    assert os.environ[name] == "40" and os.environ.pop(other) == CLIENT[other]
