"""Completion: the scripts complete commands, options, presets and studies, where a shell is here to try it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dcpipe.cli import commands as cli


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["pu"], {"publish", "pull"}),
        (["init", "digits-"], {"digits-edc", "digits-mdc", "digits-mtt"}),
        (["study", "s"], {"selection", "sizes", "slimming", "students", "sweep", "syntheses"}),
        (["export", "--fo"], {"--format"}),
        (["export", "--format", ""], {"folder", "parquet", "ddranking"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_bash_completes(
    words: list[str], completed: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "completion.bash"
    path.write_text(script("bash", capsys), encoding="utf-8")
    line = " ".join(f"'{word}'" for word in ["dcpipe", *words])
    code = f'source {path}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_dcpipe; echo "${{COMPREPLY[@]}}"'
    told = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert set(told.split()) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_every_script_names_all_and_can_be_parsed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert all(word in text for word in ("inspect", "import-labels", "digits-edc", "resilience", "ddranking"))
    if shutil.which(shell) and shell != "tcsh":
        subprocess.run([shell, "-n"], input=text, text=True, check=True, capture_output=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "cmd"]) == 2
    assert capsys.readouterr().err == (
        "dcpipe: completion is for bash, zsh, fish or tcsh, not 'cmd'; name one of them\n"
    )
