"""params.yaml is checked before any work, and what has passed is not checked again by a stage that needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dcpipe.config import presets
from dcpipe.config.params import Params
from dcpipe.types import DataError
from flows.running import checking

ROOT = Path(checking.__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCPIPE_PREFECT", "off")
    write(tmp_path)
    return tmp_path


def write(workspace: Path, **changes: object) -> None:
    content = yaml.safe_load(presets.text("digits"))
    content["evaluation"].update(changes)
    (workspace / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were checked as a whole."""
    made: list[str] = []
    check = checking.parameters.check_whole

    def counted(params: Params, where: str) -> None:
        made.append(where)
        check(params, where)

    monkeypatch.setattr(checking.parameters, "check_whole", counted)
    return made


def test_what_has_passed_is_remembered_until_the_file_changes(workspace: Path, checks: list[str]) -> None:
    assert checking.load(trusting=True).release.name == checking.load(trusting=True).release.name
    assert len(checks) == 1
    checking.load()
    assert len(checks) == 2, "a stage that needs torch checks all of it"
    write(workspace, epochs=7)
    assert checking.load(trusting=True).evaluation.epochs == 7
    assert len(checks) == 3


def test_other_code_and_other_packages_are_checked_again(
    workspace: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checking.load(trusting=True)
    monkeypatch.setattr(checking, "source_sha256", lambda root: "other")
    checking.load(trusting=True)
    assert len(checks) == 2
    packages = workspace / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    checking.load(trusting=True)
    os.utime(packages, (1, 1))  # as if a package were installed
    checking.load(trusting=True)
    assert len(checks) == 4


def test_a_mistake_is_found_every_time(workspace: Path) -> None:
    write(workspace, student="resnet19")
    for _ in range(2):
        with pytest.raises(DataError, match=r"^params.yaml: evaluation.student: unknown network 'resnet19'; use one"):
            checking.load(trusting=True)


@pytest.mark.parametrize("content", ["", "[1, {}]", '{"a": 1}', "[" * 100_000])
def test_a_memory_that_is_damaged_is_none(content: str, workspace: Path, scratch: Path, checks: list[str]) -> None:
    scratch.mkdir(exist_ok=True)
    (scratch / "checked.json").write_text(content, encoding="utf-8")
    checking.load(trusting=True)
    checking.load(trusting=True)
    assert len(checks) == 1 and len(json.loads((scratch / "checked.json").read_text(encoding="utf-8"))) == 1


def test_a_budget_that_cannot_be_reached_is_refused_every_time(workspace: Path) -> None:
    content = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))
    content["compression"] = {"codec": "svd", "ratio": 1e6}
    (workspace / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    params = checking.load()
    for _ in range(2):
        with pytest.raises(DataError, match=r"leaves .* bytes for labels"):
            checking.check_budget(params, 10, None)


RUN = """
import runpy, sys
sys.argv = [sys.argv[1]]
runpy.run_module(sys.argv[0], run_name="__main__")
print("torch" in sys.modules)
"""


def loads_torch(module: str) -> bool:
    """Whether a stage of the current workspace imports torch when it runs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DCPIPE_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, module], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()[-1] == "True"


def test_stages_that_compute_nothing_load_no_torch(workspace: Path) -> None:
    assert not loads_torch("flows.sources")
    loads_torch("flows.images")  # the first time, the budget is checked
    assert not loads_torch("flows.images")
