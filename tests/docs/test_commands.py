"""Every command of README and docs can be typed: it exists with its options, extras, presets, keys and variables.

`tests/pipeline/test_documentation.py` runs those that take seconds.
"""

from __future__ import annotations

import re

import command_lines
import pytest
from pages import BLOCKS, PAGES, commands_in, inline_commands, name_of

SHELL = ("sh", "console")
OF_THE_CODE = {
    "DCPIPE_RANKS_FOLDER",
    "DCPIPE_PARENT_TASK",
}  # variables that a process of dcpipe sets for those that it starts
FENCED = {(str(block), command) for block in BLOCKS if block.language in SHELL for command in commands_in(block)}
INLINE = {(name_of(page), command) for page in PAGES for command in inline_commands(page)}
COMMANDS = sorted({command: place for place, command in sorted(FENCED | INLINE, reverse=True)}.items())


def test_there_are_commands() -> None:
    assert len(FENCED) > 60 and len(INLINE) > 60
    assert {"dvc repro", "dcpipe status", "dcpipe publish digits-score@v1.0.0"} <= {command for command, _ in COMMANDS}


def test_every_fenced_block_says_what_it_is() -> None:
    known = {*SHELL, "python", "yaml", "toml", "text", ""}
    assert {block.language for block in BLOCKS} <= known
    unmarked = [str(block) for block in BLOCKS if not block.language and re.search(r"^(dcpipe|dvc) ", block.text, re.M)]
    assert not unmarked, f"{unmarked} look like commands: mark them as sh or console"


@pytest.mark.parametrize(("command", "place"), COMMANDS)
def test_a_command_can_be_typed(command: str, place: str) -> None:
    try:
        command_lines.check(command)
    except command_lines.WrongCommandError as error:
        pytest.fail(f"{place}: {error}")


def test_variables_and_extras_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    variables = set(re.findall(r"DCPIPE_[A-Z_]+", text)) - {"DCPIPE_"}
    assert variables <= command_lines.known_variables()
    settings = (command_lines.ROOT / "docs/settings.md").read_text(encoding="utf-8")
    missing = {name for name in command_lines.known_variables() - OF_THE_CODE if f"`{name}`" not in settings}
    assert not missing, f"docs/settings.md does not say what {missing} do"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("dcpipe stats", "invalid choice"),
        ("dcpipe init --lst", "unrecognized"),
        ("dcpipe init imagenette", "unknown preset"),
        ("dcpipe study colours", "no study"),
        ("dvc repr", "DVC does not know"),
        ("dvc repro teachers", "no stage"),
        ("dvc exp run -S compression.ratio=10", "ratio"),
        ("dvc exp run -S evaluation.best_of=4", "add a plus"),
        ("dvc exp run -S +selection.ipc=3", "leave the plus out"),
        ("python -m flows.selektion", "no module"),
        ("python benchmarks/equal_bytes.py --fast", "no option"),
        ("pip install dcpipe", "not in the package index"),
        ("pip install dcpipe[gpu]", "no extra"),
        ("DCPIPE_SCRTCH=/tmp dvc repro", "nothing reads"),
        ("dask worker tcp://HOST:1 --threads 1", "has no"),
        ("torchrun --nodes 2 -m flows.teacher KEY", "unrecognized"),
        ("condense digits", "unknown program"),
    ],
)
def test_the_check_bites(command: str, problem: str) -> None:
    with pytest.raises(Exception, match=problem):
        command_lines.check(command)
