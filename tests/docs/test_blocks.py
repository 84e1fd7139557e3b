"""Python blocks of README and docs run on a tiny release; YAML and TOML blocks say what dcpipe reads.

A block of Python that is not run is listed with the reason, and its imports of dcpipe are checked.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import yaml
from pages import BLOCKS, Block, name_of
from pydantic import BaseModel, ValidationError

import dcpipe
from dcpipe.compression import CODECS
from dcpipe.config import params
from dcpipe.config.options import Options
from dcpipe.config.registry import GROUPS, Registry
from dcpipe.images import SOURCES
from dcpipe.selection import SELECTORS
from dcpipe.studies import STUDIES
from dcpipe.synthesis import METHODS

PYTHON = [block for block in BLOCKS if block.language == "python"]
# Packages of a cluster, which are not installed here.
NOT_RUN = {"dask_jobqueue": "needs Slurm", "dask_kubernetes.operator": "needs Kubernetes"}


def imported(block: Block) -> Iterator[tuple[str, str | None]]:
    """Modules that a block imports, and the names that it takes from them."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.fixture
def desk(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the release of the pages is, which also stands for every tag and URL."""
    for place in ("data/release", "digits"):
        shutil.copytree(made, tmp_path / place)
    monkeypatch.chdir(tmp_path)
    real = dcpipe.load

    def load(where: str, **options: Any) -> Any:
        options.pop("repo", None)
        options["ipc"] = options.get("ipc") and min(options["ipc"], 4)
        return real(where if Path(where).exists() else "digits", **options)

    monkeypatch.setattr(dcpipe, "load", load, raising=False)
    monkeypatch.setattr(dcpipe.Release, "push_to_hub", create_autospec(dcpipe.Release.push_to_hub))  # needs an account
    monkeypatch.setattr(SELECTORS, "_set", {})  # a page adds one
    return tmp_path


@pytest.mark.parametrize("page", sorted({name_of(block.page) for block in PYTHON}))
def test_the_python_of_a_page_runs(page: str, desk: Path) -> None:
    """From the top to the end of a page, as somebody would type it."""
    names: dict[str, Any] = {}
    for block in PYTHON:
        if name_of(block.page) != page:
            continue
        modules = {module for module, _ in imported(block)}
        if modules & NOT_RUN.keys():
            continue
        exec(compile(block.text, str(block), "exec"), names)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_what_a_block_imports_exists(block: Block) -> None:
    for module, name in imported(block):
        if module in NOT_RUN:
            assert importlib.util.find_spec(module.split(".")[0]) is None, f"{module} is here: run {block}"
            continue
        found = importlib.import_module(module)
        assert name is None or hasattr(found, name), f"{block}: {module} has no {name}"


OPTIONS: dict[str, tuple[str, Registry[Any]]] = {
    "images": ("source", SOURCES),
    "selection": ("method", SELECTORS),
    "synthesis": ("method", METHODS),
    "compression": ("codec", CODECS),
}


def mistakes(model: type[BaseModel], content: Mapping[str, Any]) -> list[str]:
    """What a block would refuse of a part of its content; what is missing does not count."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        return [f"{found['loc']}: {found['msg']}" for found in error.errors() if found["type"] != "missing"]
    return []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_a_block_of_yaml_is_a_part_of_a_parameter_file(block: Block) -> None:
    content = yaml.safe_load(block.text)
    if content.keys() <= params.Params.model_fields.keys() and not content.keys() & {"selectors"}:
        is_study = "selectors" in content.get("selection", {})
        if not is_study:
            assert mistakes(params.Params, content) == []
            for stage, (word, registry) in OPTIONS.items():
                part = content.get(stage, {})
                if word in part:
                    Options.of(registry[part[word]]).resolve(part.get("options", {}), stage)
            return
    assert content.keys() <= STUDIES.keys(), f"{block}: {sorted(content)} are neither stages nor studies"
    for study, part in content.items():
        assert mistakes(STUDIES[study].block_type, part) == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_a_block_of_toml_declares_entry_points(block: Block) -> None:
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    assert groups.keys() <= {*GROUPS}
