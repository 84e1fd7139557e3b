"""Checks command lines that people are told to type, without running them: the command, its options and names exist."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dcpipe.cli import commands
from dcpipe.config import params, presets
from dcpipe.studies import STUDIES

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    name.split("@")[0]
    for file in ("dvc.yaml", "data/dvc.yaml")
    for name in yaml.safe_load((ROOT / file).read_text())["stages"]
}
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
    "KEY": "convnet",
    "KEY=VALUE": "selection.ipc=3",
}
GIT = {"init", "add", "commit", "push", "config", "remote", "tag", "fetch", "diff", "checkout", "clone"}
# Programs of others, which are not installed here or belong to a cluster. Their names are known; their options are not
# checked.
OTHERS = {"aws", "gcloud", "hf", "srun", "uv"}
# Variables of other programs.
VARIABLES = re.compile(r"(AWS|CUDA|DASK|FSSPEC|HF|OMP|PREFECT|DVC|GOOGLE)_\w+|PYTHON|HTTPS_PROXY")


class WrongCommandError(AssertionError):
    """A command that cannot be typed as it is written."""


def wrong(when: bool, message: str) -> None:
    if when:
        raise WrongCommandError(message)


def words_of(command: str) -> list[str]:
    """The words of a command, in which names stand for themselves, without the file that takes its output."""
    words = [WORDS.get(word, word.replace("NAME", "labels").replace("{}", "teacher")) for word in shlex.split(command)]
    return without_redirection(words)


def without_redirection(words: list[str]) -> list[str]:
    """The words before `>` or `>>`."""
    return words[: next((place for place, word in enumerate(words) if word in (">", ">>")), None)]


def simple_commands(line: str) -> Iterator[str]:
    """The commands of a line of a shell, which `&&` joins, without comments, and without those in `$(...)`."""
    whole = shlex.shlex(line, posix=False, punctuation_chars="&")
    whole.whitespace_split = True
    part: list[str] = []
    for token in whole:
        if set(token) == {"&"}:
            yield " ".join(part)
            part = []
        else:
            part.append(token)
    if part:
        yield " ".join(part)


def check(command: str) -> None:
    """Raises `WrongCommandError` if a simple command cannot be typed."""
    words = words_of(command)
    while words and re.fullmatch(r"[A-Z][A-Z_]*=.*", words[0]):
        check_variable(words.pop(0).partition("=")[0])
    if not words or words[0] == "export":
        for assigned in words[1:]:
            check_variable(assigned.partition("=")[0])
        return
    tool, *arguments = words
    wrong(tool not in TOOLS and tool not in OTHERS, f"{command}: unknown program {tool!r}")
    if tool in TOOLS:
        TOOLS[tool](arguments)


@cache
def known_variables() -> set[str]:
    """The environment variables of dcpipe that its code reads."""
    texts = [
        path.read_text(encoding="utf-8") for folder in ("dcpipe", "flows") for path in (ROOT / folder).rglob("*.py")
    ]
    return {name for text in texts for name in re.findall(r"\"(DCPIPE_[A-Z_]+)\"", text)}


def check_variable(name: str) -> None:
    known = name in known_variables() if name.startswith("DCPIPE_") else VARIABLES.fullmatch(name)
    wrong(not known, f"nothing reads the variable {name}")


def parsed(parse: Callable[[list[str]], Any], arguments: list[str], shown: str) -> Any:
    """What an `argparse` parser makes of arguments."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            return parse(arguments)
    except SystemExit as end:
        wrong(end.code != 0, f"{shown} {' '.join(arguments)}: {told.getvalue().strip().splitlines()[-1:]}")
        return None


def dcpipe(arguments: list[str]) -> None:
    if len(arguments) == 1 and not arguments[0].startswith("-"):  # the name of a command alone: its help must exist
        arguments = [*arguments, "--help"]
    options = parsed(lambda words: commands._parsed(words, commands._parser()), arguments, "dcpipe")
    if options is None:
        return
    if arguments[0] == "init" and options.preset not in (None, WORDS["NAME"]) and not options.list:
        presets.preset(options.preset)
    if arguments[0] == "study":
        wrong(options.name not in STUDIES, f"no study {options.name!r}")
        swept = yaml.safe_load((ROOT / "studies/params.yaml").read_text(encoding="utf-8"))["sweep"]["sweeps"]
        known = options.sweep in (None, WORDS["NAME"]) or (options.name == "sweep" and options.sweep in swept)
        wrong(not known, f"study {options.name} has no sweep {options.sweep!r}")


def dvc(arguments: list[str]) -> None:
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    if len(arguments) == 1:  # the name of a command alone
        arguments = [*arguments, "--help"]
    try:
        options = parsed(get_main_parser().parse_args, arguments, "dvc")
    except DvcParserError as error:
        raise WrongCommandError(f"dvc {' '.join(arguments)}: DVC does not know this") from error
    if options is None:
        return
    if options.cmd == "repro":
        named = {target.split(":")[-1].split("@")[0] for target in options.targets or []}
        wrong(not named <= STAGES | {*STUDIES}, f"{named - STAGES} is no stage")
    for change in getattr(options, "set_param", None) or []:
        check_change(change)


def check_change(change: str) -> None:
    """`KEY=VALUE` of `dvc exp run -S`, which the parameters of the demo must allow; a new key needs a plus."""
    key, _, value = change.partition("=")
    content = yaml.safe_load(presets.text("digits"))
    *blocks, last = key.removeprefix("+").split(".")
    place = content
    for block in blocks:
        wrong(block not in place, f"{key}: params.yaml of the demo has no {block!r}")
        place = place[block]
    wrong(
        (last in place) == key.startswith("+"),
        f"{key}: {'is there, leave the plus out' if last in place else 'is new, add a plus'}",
    )
    place[last] = yaml.safe_load(value)
    from dcpipe.config import budget

    budget.planned(params.parse(content), 10)


def git(arguments: list[str]) -> None:
    wrong(arguments[0] not in GIT, f"git {arguments[0]} is not among {sorted(GIT)}")


def python(arguments: list[str]) -> None:
    if arguments[0] == "-c":
        compile(arguments[1], "<command>", "exec")
        return
    if arguments[0] == "-m" and arguments[1] == "venv":
        return
    module = arguments[0] == "-m"
    name, rest = (arguments[1], arguments[2:]) if module else (arguments[0], arguments[1:])
    base = ROOT / name.replace(".", "/") if module else ROOT / name
    found = [path for path in (base.with_suffix(".py"), base / "__main__.py", base) if path.is_file()]
    wrong(not found, f"there is no {'module' if module else 'file'} {name}")
    text = found[0].read_text(encoding="utf-8")
    for option in rest:
        wrong(option.startswith("--") and f'"{option}"' not in text, f"{found[0].name} has no option {option}")


def pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wrong(arguments[0] != "install", f"pip {arguments[0]}")
    for wanted in arguments[1:]:
        name, extras = re.fullmatch(r"([.\w-]+)(?:\[([\w,]+)\])?(?: @ git\+\S+)?", wanted).groups()  # type: ignore[union-attr]
        wrong(name not in ("dcpipe", "."), f"pip install {wanted}")
        wrong(wanted == "dcpipe", "dcpipe is not in the package index; name where to install it from")
        for extra in (extras or "").split(",") if extras else []:
            wrong(extra not in project["optional-dependencies"], f"there is no extra {extra!r}")


def prefect(arguments: list[str]) -> None:
    words = [word for word in arguments if not word.startswith("-") and word not in ("gpu", "1")]
    subprocess.run([sys.executable, "-m", "prefect", *words, "--help"], check=True, capture_output=True)


def dask(arguments: list[str]) -> None:
    shown = _dask_help(arguments[0])
    for option in arguments[1:]:
        wrong(option.startswith("--") and option.split("=")[0] not in shown, f"dask {arguments[0]} has no {option}")


@cache
def _dask_help(command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "dask", command, "--help"], check=True, capture_output=True, text=True
    ).stdout


def torchrun(arguments: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    parsed(get_args_parser().parse_args, arguments, "torchrun")
    python(arguments[arguments.index("-m") :])


def dev(arguments: list[str]) -> None:
    script = (ROOT / "dev").read_text(encoding="utf-8")
    if arguments[0] == "COMMAND" or re.search(rf"^{re.escape(arguments[0])}\)", script, re.M):
        wrong(any(word not in script for word in arguments[1:]), f"./dev {' '.join(arguments)}")
        return
    check(shlex.join(arguments))


def anything(arguments: list[str]) -> None:
    """Commands of the shell, and tools that the environment must have."""


TOOLS: dict[str, Callable[[list[str]], None]] = {
    ".": anything,
    "cd": anything,
    "dask": dask,
    "dcpipe": dcpipe,
    "dvc": dvc,
    "git": git,
    "lint-imports": anything,
    "pip": pip,
    "prefect": prefect,
    "pytest": lambda arguments: None,
    "python": python,
    "tensorboard": anything,
    "torchrun": torchrun,
    "./dev": dev,
    "pre-commit": anything,
}
