"""Commands that messages tell people to type exist, with these words and options, and name stages that exist.

`tests/pipeline` types some of them for real: `dvc checkout --force`, `dcpipe publish`, `dvc pull`, `dvc repro`.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from dcpipe.cli import commands

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"`((?:dcpipe|dvc|git|prefect) [^`]+)`")
# What stands for a word of the user's, and the brackets of an f-string.
WORDS = {
    "{}": "teacher",
    "NAME": "labels",
    "PRESET": "digits",
    "REPO": "somewhere",
    "TAG": "digits@v1.0.0",
    "NAME@vX.Y.Z": "digits@v1.0.0",
    "STAGE": "teacher",
    "URL": "/somewhere",
}
STAGES = {
    name.split("@")[0]
    for file in ("dvc.yaml", "data/dvc.yaml")
    for name in yaml.safe_load((ROOT / file).read_text())["stages"]
}


def texts(path: Path) -> list[str]:
    """All texts of a module but docstrings; values within f-strings become {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | documents:
            found.append(node.value)
    return found


MODULES = [path for folder in ("dcpipe", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]
MESSAGES = [text for path in MODULES for text in texts(path)]
COMMANDS = sorted({command for text in MESSAGES for command in COMMAND.findall(" ".join(text.split()))})


def words(command: str) -> list[str]:
    return [WORDS.get(word, word.replace("NAME", "labels").replace("{}", "teacher")) for word in shlex.split(command)]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 12 and "dvc checkout --force" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_message_can_be_typed(command: str) -> None:
    tool, *arguments = words(command)
    if tool == "dcpipe":
        try:
            commands._parser().parse_args(arguments)
        except SystemExit:  # the name of a command alone: its help must exist
            assert len(arguments) == 1, command
            with pytest.raises(SystemExit, match=r"^0$"):
                commands._parser().parse_args([*arguments, "--help"])
    elif tool == "dvc":
        from dvc.cli.parser import get_main_parser

        options = get_main_parser().parse_args(arguments)
        if options.cmd == "repro":
            named = {target.split(":")[-1].split("@")[0] for target in options.targets or []}
            assert named <= STAGES | {"labels"}, f"{named - STAGES} is no stage"
    elif tool == "prefect":
        subprocess.run([sys.executable, "-m", "prefect", *arguments, "--help"], check=True, capture_output=True)
    else:
        assert arguments[0] in ("init", "add", "commit", "push", "config", "remote", "tag", "fetch", "diff")


def test_extras_of_messages_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {extra for text in MESSAGES for extra in re.findall(r"install \"?dcpipe\[([a-z0-9]+)\]", text)}
    assert {"pipeline", "s3", "timm"} <= wanted <= set(project["optional-dependencies"])
