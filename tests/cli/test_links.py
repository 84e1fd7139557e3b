"""The command that sets up links, and `init`, which does it too."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.config import Config

from dcpipe.cli import commands, links


def test_it_says_what_it_did(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert links.main() == 0
    assert capsys.readouterr().out == ""
    (workspace / ".dvc").mkdir()
    assert links.main() == 0
    assert capsys.readouterr().out.startswith(("DVC gives files to this workspace by ", "The disk of "))


def test_settings_that_cannot_be_read(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / ".dvc").mkdir()
    (workspace / ".dvc/config.local").write_text("[cache\n", encoding="utf-8")
    assert links.main() == 2
    assert capsys.readouterr().err.startswith("dcpipe: the settings of DVC in ")


def test_init_does_it_too(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / ".dvc").mkdir()
    (workspace / "dvc.yaml").touch()
    assert commands.main(["init", "digits"]) == 0
    assert capsys.readouterr().out.startswith(("DVC gives files to this workspace by ", "The disk of "))
    assert Config(str(workspace / ".dvc"))["cache"]["type"] in (["hardlink"], ["reflink"], ["copy"])
