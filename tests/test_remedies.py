"""Commands that messages tell people to type exist, with these words and options, and name stages that exist.

`tests/pipeline` types some of them for real: `dvc checkout --force`, `dcpipe publish`, `dvc pull`, `dvc repro`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import command_lines
import pytest

ROOT = command_lines.ROOT
COMMAND = re.compile(r"`((?:dcpipe|dvc|git|prefect) [^`]+)`")


def texts(path: Path) -> list[str]:
    """All texts of a module but docstrings; values within f-strings become {}."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    found = []
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | documents:
            found.append(node.value)
    return found


MODULES = [path for folder in ("dcpipe", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]
MESSAGES = [text for path in MODULES for text in texts(path)]
COMMANDS = sorted({command for text in MESSAGES for command in COMMAND.findall(" ".join(text.split()))})


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 12 and "dvc checkout --force" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_message_can_be_typed(command: str) -> None:
    command_lines.check(command)


def test_extras_of_messages_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {extra for text in MESSAGES for extra in re.findall(r"install \"?dcpipe\[([a-z0-9]+)\]", text)}
    assert {"pipeline", "s3", "timm"} <= wanted <= set(project["optional-dependencies"])
