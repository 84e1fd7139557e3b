"""Workspaces as fixtures: fresh ones, one whose line has run, and copies of it.

All of them are made by `dcpipe init`, and run the code that the wheel of dcpipe installs, which is built once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from workspaces import ROOT, Workspace


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function that gives the folder of a name, which the first process of pytest that wants it makes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).exists():
                make(shared / f"{name}.partial")
                (shared / f"{name}.partial").rename(shared / name)
        return shared / name

    return folder


@pytest.fixture(scope="session")
def installed(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder with what the wheel installs."""

    def make(folder: Path) -> None:
        wheels = folder.with_name("wheels")
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        subprocess.run(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT], check=True, timeout=300
        )
        [wheel] = wheels.glob("*.whl")
        subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder, wheel], check=True, timeout=300)

    return once("installed", make)


def environment(folder: Path, installed: Path) -> dict[str, str]:
    """The environment of commands in the workspace of a folder, whose cache and remote are beside it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DCPIPE_", "PREFECT_", "DVC_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(installed),  # before the checkout, which is installed too
        "DCPIPE_PREFECT": "off",
        "OMP_NUM_THREADS": "1",  # sums depend on the number of threads, and these networks are tiny
        "DCPIPE_DEVICE": "cpu",
        "DCPIPE_CACHE": str(folder / "cache"),
        "DCPIPE_REMOTE": str(folder / "remote"),
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.invalid",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.invalid",
    }


@pytest.fixture(scope="session")
def make_workspace(
    once: Callable[[str, Callable[[Path], None]], Path], installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Workspace]:
    """Workspaces by name."""

    def initialise(folder: Path) -> None:
        folder.mkdir()
        empty = Workspace(folder, environment(folder, installed))
        empty.run("dcpipe", "init", "digits", "workspace")
        made = Workspace(folder / "workspace", empty.env)
        made.params()
        made.commit("start")

    def make(name: str) -> Workspace:
        folder = tmp_path_factory.mktemp(name) / "copy"
        shutil.copytree(once("initialised", initialise), folder, symlinks=True)
        return Workspace(folder / "workspace", environment(folder, installed))

    return make


@pytest.fixture(scope="session")
def line(
    once: Callable[[str, Callable[[Path], None]], Path],
    make_workspace: Callable[[str], Workspace],
    installed: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Workspace:
    """A workspace whose whole line has been reproduced once; tests read it. Every process of pytest has a copy of its
    own, with its cache, because tests of several processes run commands in it at once."""

    def reproduce(folder: Path) -> None:
        first = make_workspace("line")
        output = first.run("dvc", "repro")
        first.root.parent.rename(folder)
        (folder / "repro.txt").write_text(output, encoding="utf-8")

    made = once("line", reproduce)
    folder = tmp_path_factory.mktemp("line") / "copy"
    shutil.copytree(made, folder, symlinks=True)
    told = (folder / "repro.txt").read_text(encoding="utf-8")
    return Workspace(folder / "workspace", environment(folder, installed), told)


@pytest.fixture
def copy_of_line(line: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    return line.copy(tmp_path)
