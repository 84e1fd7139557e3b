"""Make a workspace: a folder in which `dvc repro` builds a condensed dataset."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from pathlib import Path

import yaml

from dcpipe.release.tags import need_dvc, repository_of
from dcpipe.types import DataError, require
from dcpipe.workspace import digests, dvcfiles, links
from dcpipe.workspace.code import ROOT

PARAMS = "params.yaml"
_SKELETON = "dcpipe.workspace.skeleton"
# Files of the skeleton, without their leading dots, because packages leave hidden files out; and files that the
# checkout of dcpipe has for itself, which the wheel contains as part of the skeleton.
_OWN = {".gitignore": "gitignore", ".dvcignore": "dvcignore", "README.md": "README.md", "prefect.toml": "prefect.toml"}
_STUDIES = "studies/params.yaml"
_COMMON = {"data/.gitignore": "data_gitignore", _STUDIES: "studies.yaml"}
# Of a variant, which is one line; lines within a sweep, which names the preset that it is for, are further in.
_OBSERVERS = re.compile(r"^ {4}[\w.-]+: .*observers: \[([^\]]+)\]")


def is_workspace(root: Path) -> bool:
    """Whether a folder has the pipeline already."""
    return (root / dvcfiles.PIPELINE).exists()


def make(root: Path, params: str) -> list[str]:
    """Make a workspace with the text of a params.yaml in the folder `root`, which may be new, empty, or a part of a Git
    repository. Returns what to tell the user.

    Git and DVC are initialised where they are not yet; nothing is committed. Raises `DataError` if Git or DVC is not
    installed, or if a file is in the way.
    """
    written, templates = dict(_files(params)), dvcfiles.templates()
    require(not root.exists() or root.is_dir(), f"{root} is a file; give a folder that is new or empty")
    _check_tools()
    in_the_way = [name for name in (*written, *templates) if (root / name).exists()]
    require(
        not in_the_way,
        f"{root} has {', '.join(in_the_way[:3])} already; give a folder that is new, or remove "
        f"{'it' if len(in_the_way) == 1 else 'them'}",
    )
    others = [entry.name for entry in root.iterdir() if not entry.name.startswith(".")] if root.exists() else []
    require(
        not others or repository_of(root) is not None,
        f"{root} has {', '.join(sorted(others)[:3])} and is no part of a Git repository; give a folder that is new or "
        "empty, so that your files do not become a part of the workspace",
    )
    root.mkdir(parents=True, exist_ok=True)
    _write(root, written)
    digests.write(root, digests.installed())
    told = list(_initialised(root))
    _write(root, templates)  # into the folder that `dvc init` makes
    _run(root, "git", "add", "--", digests.CODE, *written, *templates)
    return told


def _write(root: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _files(params: str) -> Iterator[tuple[str, str]]:
    """The text of each file by its path, apart from code.yaml."""
    name = str(yaml.safe_load(params)["release"]["name"])
    yield PARAMS, params
    for path, content in dvcfiles.dvc_files(dvcfiles.Digests()).items():
        if path == dvcfiles.PIPELINE:
            content["artifacts"] = {name: {"path": "data/release", "type": "dataset"}}
        yield path, dvcfiles.text(path, content)
    skeleton = files(_SKELETON)
    for path, stored in _OWN.items():
        yield path, skeleton.joinpath(stored).read_text(encoding="utf-8").replace("{name}", name)
    teachers = yaml.safe_load(params)["teacher"]["networks"]
    for path, stored in _COMMON.items():
        packaged = skeleton.joinpath(stored)
        text = (packaged if packaged.is_file() else ROOT / path).read_text(encoding="utf-8")
        yield path, _applicable(text, teachers) if path == _STUDIES else text


def _applicable(studies: str, teachers: Collection[str]) -> str:
    """The text of studies/params.yaml without the variants that need teachers which this workspace does not have."""

    def applies(line: str) -> bool:
        named = _OBSERVERS.search(line)
        return named is None or {name.strip() for name in named[1].split(",")} <= set(teachers)

    return "".join(line for line in studies.splitlines(keepends=True) if applies(line))


def _check_tools() -> None:
    require(shutil.which("git") is not None, "git is not installed, and a workspace is a git repository; install git")
    need_dvc("builds the set", "pipeline")


def _initialised(root: Path) -> Iterator[str]:
    """Initialise Git and DVC, and let DVC link files; what was done."""
    top = repository_of(root)
    if top is None:
        _run(root, "git", "init", "--quiet", "--initial-branch", "main")
    below = top is not None and top.resolve() != root.resolve()
    if below:
        yield f"The workspace is a folder of the git repository {top}."
    if not (root / ".dvc").is_dir():
        _run(root, sys.executable, "-m", "dvc", "init", "--quiet", *(["--subdir"] if below else []))
        _run(root, sys.executable, "-m", "dvc", "config", "core.analytics", "false")
        _run(root, "git", "add", "--", ".dvc/config")
    yield from links.set_up(root)


def _run(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise DataError(f"`{' '.join(command[-3:])}` failed in {root}: {lines[-1]}; correct it and run again")
