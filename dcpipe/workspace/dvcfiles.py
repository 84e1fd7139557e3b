"""The files of DVC in a workspace: the pipeline, the listing of sources, and the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import yaml

from dcpipe.studies import STUDIES
from dcpipe.workspace import code
from dcpipe.workspace.digests import CODE

PIPELINE, SOURCES, STUDY = "dvc.yaml", "data/dvc.yaml", "studies/dvc.yaml"
TEMPLATES = ".dvc/plots"  # where DVC looks for templates
_HEADERS = {
    PIPELINE: "The pipeline. A stage has the name of its block in params.yaml and of its folder in data/.\n"
    "`code.yaml` says for which version of dcpipe the data was made; `dcpipe upgrade` changes it.",
    SOURCES: "What the pipeline reads from outside the workspace: before every `dvc repro`, names, sizes and times of\n"
    "the files are listed. Where they are as before, nothing else runs.",
    STUDY: "Studies. A plain `dvc repro` does not run them; `dcpipe study NAME` does. Git tracks their results.",
}


_BY_FILE = (".", "dcpipe", "dcpipe/config", "dcpipe/reports", "dcpipe/views", "flows")


class Code(Protocol):
    """How stages depend on code."""

    def deps(self, module: str) -> list[str]:
        """The dependencies of a stage that runs `python -m module`."""
        ...

    def params(self, stage: str) -> list[Any]:
        """The parameters of a stage that stand for its code."""
        ...


class Files:
    """Stages depend on the files that they import, as in the checkout of dcpipe."""

    def deps(self, module: str) -> list[str]:
        """The files, or the packages that they are in."""
        return _folded(code.closure(module))

    def params(self, stage: str) -> list[Any]:
        """The schema, which stands for the code that all stages share."""
        return [{"dcpipe/store/artifact.py": ["SCHEMA"]}]


class Digests:
    """Stages depend on the digest of their code in code.yaml."""

    def deps(self, module: str) -> list[str]:
        """None."""
        return []

    def params(self, stage: str) -> list[Any]:
        """The entry of the stage, and the schema."""
        return [{CODE: ["schema", stage]}]


def dvc_files(with_code: Code) -> dict[str, dict[str, Any]]:
    """The content of each file by its path in the workspace."""
    return {PIPELINE: _pipeline(with_code), SOURCES: _sources(), STUDY: _studies(with_code)}


def templates() -> dict[str, str]:
    """The templates of plots (Vega-Lite) that the pipeline names, as text by their path in the workspace."""
    folder = files("dcpipe.workspace").joinpath("plots")
    stored = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".json")), key=lambda entry: entry.name)
    return {f"{TEMPLATES}/{entry.name}": entry.read_text(encoding="utf-8") for entry in stored}


def text(path: str, content: Mapping[str, Any]) -> str:
    """A file as YAML, with a comment that says what it is."""
    header = "".join(f"# {line}\n" for line in _HEADERS[path].splitlines())
    return f"{header}\n{yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)}"


class _Dumper(yaml.SafeDumper):
    """YAML with lists that are indented, and without anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _pipeline(with_code: Code) -> dict[str, Any]:
    stored = files("dcpipe.workspace").joinpath("pipeline.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(stored)
    for name, stage in content["stages"].items():
        _add(stage.get("do", stage), name, f"flows.{name}", with_code)
    return content


def _sources() -> dict[str, Any]:
    stage = {
        "desc": "list the files of the image source, and hash the weights of pretrained teachers",
        "wdir": "..",
        "cmd": "python -m flows.sources",
        "always_changed": True,
        "outs": [{"data/sources": {"persist": True}}],
    }
    return {"stages": {"sources": stage}}


def _studies(with_code: Code) -> dict[str, Any]:
    stages = {}
    for name, study in STUDIES.items():
        reads: list[Any] = [{"params.yaml": None}] if study.reads is None else []
        stage = {
            "desc": study.title,
            "wdir": "..",
            "cmd": f"python -m flows.studies {name}",
            "deps": sorted(f"data/{noun}" for noun in (*study.needs, "teacher")),
            "params": [*reads, {"studies/params.yaml": [name]}, *(study.reads or ())],
            "outs": [{f"data/study/{name}": {"cache": False}}],
        }
        stages[name] = _add(stage, "studies", "flows.studies", with_code)
    # Without plots, because DVC complains of figures that have not been drawn yet; the studies print where theirs are.
    return {"stages": stages}


def _add(stage: dict[str, Any], name: str, module: str, with_code: Code) -> dict[str, Any]:
    """Add the code to a stage."""
    stage["deps"] = sorted([*stage["deps"], *with_code.deps(module)])
    stage["params"] = [*stage["params"], *with_code.params(name)]
    return stage


def _folded(paths: Sequence[Path]) -> list[str]:
    """Files, or their packages in place of them, except in packages of which each stage needs a few files."""
    folded = []
    for path in paths:
        folders = (folder.as_posix() for folder in reversed(path.parents))
        folded.append(next((folder for folder in folders if folder not in _BY_FILE), path.as_posix()))
    return list(dict.fromkeys(folded))
