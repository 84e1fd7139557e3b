"""The files of DVC: the checkout has those that its code says, and other workspaces the same pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dcpipe.studies import STUDIES
from dcpipe.workspace import dvcfiles
from dcpipe.workspace.code import closure
from dcpipe.workspace.dvcfiles import Digests, Files, dvc_files

ROOT = Path(__file__).resolve().parents[2]
PATHS = [dvcfiles.PIPELINE, dvcfiles.SOURCES, dvcfiles.STUDY]
CHECKOUT, OTHER = dvc_files(Files()), dvc_files(Digests())


def stages(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: stage.get("do", stage) for name, stage in content["stages"].items()}


@pytest.mark.parametrize("path", PATHS)
def test_the_checkout_has_the_files_that_its_code_says(path: str) -> None:
    """If this fails, the difference says what to write into the file."""
    found = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    found.pop("artifacts", None)
    for name, stage in stages(CHECKOUT[path]).items():
        assert stages(found).get(name) == stage, f"stage {name} of {path}"
    assert found == CHECKOUT[path]


def covers(dep: str, path: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")


@pytest.mark.parametrize("stage", [*stages(CHECKOUT[dvcfiles.PIPELINE]), *STUDIES])
def test_dependencies_cover_the_imports_and_nothing_else(stage: str) -> None:
    content = CHECKOUT[dvcfiles.STUDY if stage in STUDIES and stage != "selection" else dvcfiles.PIPELINE]
    listed = [dep for dep in stages(content)[stage]["deps"] if not dep.startswith("data/")]
    needed = [path.as_posix() for path in closure(f"flows.{'studies' if content is CHECKOUT[PATHS[2]] else stage}")]
    assert needed
    assert [path for path in needed if not any(covers(dep, path) for dep in listed)] == []
    assert [dep for dep in listed if not any(covers(dep, path) for path in needed)] == []


@pytest.mark.parametrize("path", PATHS)
def test_other_workspaces_have_the_same_stages_without_files_of_dcpipe(path: str) -> None:
    for name, stage in stages(OTHER[path]).items():
        own = stages(CHECKOUT[path])[name]
        assert {**stage, "deps": 0, "params": 0} == {**own, "deps": 0, "params": 0}
        assert stage.get("deps", []) == [dep for dep in own.get("deps", []) if dep.startswith("data/")]
        if name != "sources":
            code = "studies" if path == dvcfiles.STUDY else name
            assert stage["params"][:-1] == own["params"][:-1]
            assert (stage["params"][-1], own["params"][-1]) == (
                {"code.yaml": ["schema", code]},
                {"dcpipe/store/artifact.py": ["SCHEMA"]},
            )
    assert {**OTHER[path], "stages": 0} == {**CHECKOUT[path], "stages": 0}


@pytest.mark.parametrize("path", PATHS)
def test_a_file_is_read_as_it_was_meant(path: str) -> None:
    text = dvcfiles.text(path, OTHER[path])
    assert yaml.safe_load(text) == OTHER[path]
    assert text.startswith("# ") and "&id" not in text
    assert max(len(line) for line in text.splitlines()) <= 120
