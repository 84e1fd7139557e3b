"""Commands of a workspace: in its folder, below it, and elsewhere; and words that are no command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dcpipe.cli import commands as cli
from dcpipe.config import presets


@pytest.fixture
def made(workspace: Path) -> Path:
    """A workspace with subfolders, as far as these commands look at it."""
    for folder in ("data/images", "studies"):
        (workspace / folder).mkdir(parents=True)
    (workspace / "params.yaml").write_text(presets.text("digits"), encoding="utf-8")
    (workspace / "dvc.yaml").write_text("{}", encoding="utf-8")
    study = "selection: {selectors: {random: {}}, ipc: [1], seeds: [0, 1, 2]}"
    (workspace / "studies/params.yaml").write_text(study, encoding="utf-8")
    (workspace / "studies/dvc.yaml").write_text("stages: {selection: {}}", encoding="utf-8")
    return workspace


@pytest.mark.parametrize("below", [".", "data/images", "studies"])
def test_commands_work_in_subfolders(
    below: str, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[Path, list[str]]] = []

    def run(command: list[str], env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        ran.append((Path.cwd(), command[2:]))
        return subprocess.CompletedProcess(command, 1)

    def main(*words: str) -> int:
        monkeypatch.chdir(made / below)
        return cli.main(list(words))

    assert main("check", "--resolved") == 0
    captured = capsys.readouterr()
    assert "name: digits-score" in captured.out
    assert captured.err == ("" if below == "." else f"In the workspace {made}:\n")
    assert main("status") == 0 and "stages" in capsys.readouterr().out
    assert main("plan", "--device", "h100") == 0 and "evaluation" in capsys.readouterr().out
    monkeypatch.setattr(subprocess, "run", run)
    assert main("evaluate") == main("study", "selection") == 2
    assert ran == [(made, ["dvc", "repro", "evaluation"]), (made, ["dvc", "repro", "studies/dvc.yaml:selection"])]


@pytest.mark.parametrize("command", ["check", "plan", "evaluate"])
def test_where_there_is_no_workspace_it_says_so(
    command: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"dcpipe: {workspace} ") and "`dcpipe init PRESET DIR`" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evalute"], "unknown command 'evalute'; did you mean evaluate? `dcpipe --help` shows all"),
        (["labels", "x"], "unknown command 'labels'; did you mean import-labels? `dcpipe --help` shows all"),
        (["xyz"], "unknown command 'xyz'; `dcpipe --help` shows all"),
        (
            ["inspect", "params.yaml"],
            "params.yaml holds no arrays; run `dcpipe check` for parameters, and `dcpipe status` for what was built",
        ),
        (["publish", "digits@v1.0.0", "--no-push", "--remote", "x"], "--remote is where to push; leave --no-push out"),
    ],
)
def test_what_is_meant_is_said(words: list[str], sentence: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"dcpipe: {sentence}\n"
