"""Workspaces as fixtures: fresh ones, one whose line has run, and copies of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from workspaces import ROOT, Workspace


def environment(folder: Path) -> dict[str, str]:
    """The environment of commands in the workspace of a folder, whose cache and remote are beside it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DCPIPE_", "PREFECT_", "DVC_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
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
def make_workspace(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Workspace]:
    """Workspaces by name."""

    def make(name: str) -> Workspace:
        root = tmp_path_factory.mktemp(name) / "workspace"
        root.mkdir()
        for entry in (
            "dcpipe",
            "flows",
            "studies",
            "dvc.yaml",
            "pyproject.toml",
            ".gitignore",
            ".dvcignore",
            "README.md",
        ):
            source = ROOT / entry
            if source.is_dir():
                shutil.copytree(source, root / entry)  # with what Python has compiled, which saves seconds a workspace
            else:
                shutil.copy(source, root / entry)
        (root / "data").mkdir()
        for name in (".gitignore", "dvc.yaml"):
            shutil.copy(ROOT / "data" / name, root / "data" / name)
        workspace = Workspace(root, environment(root.parent))
        workspace.params()
        workspace.run("git", "init", "-q", "-b", "main")
        workspace.run("dvc", "init", "-q")
        workspace.commit("start")
        return workspace

    return make


@pytest.fixture(scope="session")
def line(make_workspace: Callable[[str], Workspace], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose whole line has been reproduced once; tests read it.

    It is made by the first process of pytest that wants it. Every process has a copy of its own, with its cache,
    because tests of several processes run commands in it at once.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    made, told = shared / "line", shared / "line.txt"
    with FileLock(shared / "line.lock"):
        if not told.exists():
            first = make_workspace("line")
            output = first.run("dvc", "repro")
            first.root.parent.rename(made)
            told.write_text(output, encoding="utf-8")
    folder = tmp_path_factory.mktemp("line") / "copy"
    shutil.copytree(made, folder, symlinks=True)
    return Workspace(folder / "workspace", environment(folder), told.read_text(encoding="utf-8"))


@pytest.fixture
def copy_of_line(line: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    return line.copy(tmp_path)
