"""Numbers in environment variables."""

from __future__ import annotations

import pytest

from dcpipe.config import environment
from dcpipe.types import DataError

NAME = "DCPIPE_TASK_MINUTES"


@pytest.mark.parametrize(
    ("text", "expected"), [("", None), ("  ", None), ("30", 30.0), (" 0.5 ", 0.5), ("1e3", 1000.0)]
)
def test_minutes(text: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, text)
    assert environment.minutes(NAME, "of a task") == expected
    monkeypatch.delenv(NAME)
    assert environment.minutes(NAME, "of a task") is None


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e6", "ten", "1 2"])
def test_other_minutes_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(DataError, match=rf"{NAME} is '{text}'; give the minutes of a task, or unset it"):
        environment.minutes(NAME, "of a task")


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("8", 8), ("1024", 1024), ("007", 7)])
def test_processes(text: str, expected: int) -> None:
    assert environment.processes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "1025", "-1", "1.5", "\u0663", "9" * 5000])
def test_other_numbers_of_processes_are_none(text: str) -> None:
    assert environment.processes(text) is None
