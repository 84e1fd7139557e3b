"""What is shown of messages, and what is kept of them."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from dcpipe import logs
from dcpipe.types import DataError

LOG = logs.logger("flows.teacher")


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(logs.VARIABLE, raising=False)


def say_all() -> None:
    LOG.debug("a detail")
    LOG.info("accuracy %.1f %%", 98.25)
    LOG.warning("something is odd")


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        (None, ["teacher a: accuracy 98.2 %", "teacher a: something is odd"]),
        ("warning", ["teacher a: something is odd"]),
    ],
)
def test_a_command_shows_a_line_with_its_name(
    level: str | None, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with logs.shown("teacher a") as handler:
        handler.setLevel(logs.level(level))
        say_all()
    say_all()  # afterwards nobody listens
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == lines


def test_with_everything_lines_have_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.shown("teacher a") as handler:
        handler.setLevel(logs.level("debug"))
        say_all()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "debug teacher a: a detail",
        "info teacher a: accuracy 98.2 %",
        "warning teacher a: something is odd",
    ]
    assert all(len(line.split(" ")[0].split(":")) == 3 for line in lines)


def test_the_option_counts_for_more_than_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logs.level() == logging.INFO
    monkeypatch.setenv("DCPIPE_LOG", "warning")
    assert logs.level() == logging.WARNING and logs.level("debug") == logging.DEBUG
    monkeypatch.setenv("DCPIPE_LOG", "loud")
    with pytest.raises(DataError, match=r"^DCPIPE_LOG is 'loud'; use one of debug, info, warning$"):
        logs.level()


def test_commands_have_two_options_of_which_one_may_be_given() -> None:
    parser = argparse.ArgumentParser()
    logs.add_options(parser)
    assert [parser.parse_args(words).level for words in ([], ["-v"], ["--quiet"])] == [None, "debug", "warning"]
    with pytest.raises(SystemExit):
        parser.parse_args(["-v", "-q"])


def test_every_line_has_the_name_once_and_no_sign_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.shown("teacher a"):
        LOG.error("teacher a: epoch 1/2\nfile \x1b[31mred is odd")
    assert capsys.readouterr().err == "teacher a: epoch 1/2\nteacher a: file \\x1b[31mred is odd\n"


def test_what_a_bar_shows_is_not_written_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with logs.shown("teacher a"):
        LOG.info("epoch 1/9", extra=logs.UNDER_WAY)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        LOG.info("epoch 2/9", extra=logs.UNDER_WAY)
        LOG.info("epoch 9/9")
    assert capsys.readouterr().err == "teacher a: epoch 1/9\nteacher a: epoch 9/9\n"


# --- the file ---


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_of_a_run_has_everything(workspace: Path) -> None:
    with logs.kept("teacher a/b"):
        say_all()
        try:
            raise KeyError("a bug")
        except KeyError:
            LOG.debug("a bug", exc_info=True)
    say_all()
    [path] = (workspace / ".dcpipe/logs").iterdir()
    assert path.name.partition("-teacher-a-b-")[1]
    first, *others = path.read_text(encoding="utf-8").splitlines()
    assert first.endswith(" DEBUG   dcpipe.flows.teacher: a detail") and first[:4].isdigit()
    assert "KeyError: 'a bug'" in others and sum("something is odd" in line for line in others) == 1


def test_the_last_files_are_kept(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KEPT", 3)
    folder = workspace / ".dcpipe/logs"
    folder.mkdir(parents=True)
    for day in range(1, 6):
        (folder / f"2020010{day}-000000-images-1.log").touch()
    with logs.kept("images"):
        say_all()
    *old, new = sorted(path.name for path in folder.iterdir())
    assert old == ["20200104-000000-images-1.log", "20200105-000000-images-1.log"] and new[:4] > "2020"


def test_nothing_is_left_where_there_is_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with logs.kept("images"):
        say_all()
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_without_a_file_that_cannot_be_written(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    (workspace / ".dcpipe").write_text("a file in the way", encoding="utf-8")
    with logs.kept("images"):
        pass
    [message] = caplog.messages
    assert message.startswith("there is no log of this run: ")


# --- a program that imports dcpipe ---


def test_who_imports_dcpipe_decides_what_is_shown() -> None:
    code = "import dcpipe, logging; logging.getLogger('dcpipe.x').error('odd')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("", "")
    told = subprocess.run(
        [sys.executable, "-c", f"import logging; logging.basicConfig(); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == "ERROR:dcpipe.x:odd\n"
