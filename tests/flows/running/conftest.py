"""No test here finds a Prefect server but its own."""

from __future__ import annotations

import pytest

from flows.running.server import CLIENT

NOBODY = "http://127.0.0.1:9/api"


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOBODY)
    monkeypatch.delenv("DCPIPE_PREFECT", raising=False)
    for name in CLIENT:
        monkeypatch.setenv(name, CLIENT[name])  # removed again after a test that sets them
