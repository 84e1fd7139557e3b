"""dvc.yaml says what the code says: nouns, code dependencies, parameters, and the picture in the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dcpipe.config.params import Params
from dcpipe.studies.selectors import STUDIES, VARIANTS
from flows.running.code import closure

ROOT = Path(__file__).resolve().parents[2]
NOUNS = list(Params.model_fields)


def stages() -> dict[str, dict]:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in content.items()}


def test_a_stage_a_block_a_flow_share_one_noun() -> None:
    assert list(stages()) == NOUNS
    for noun in NOUNS:
        assert (ROOT / "flows" / f"{noun}.py").is_file()
        home = ROOT / "dcpipe" / noun
        assert home.with_suffix(".py").is_file() or (home / "__init__.py").is_file()
        assert stages()[noun]["cmd"].startswith(f"python -m flows.{noun}")


@pytest.mark.parametrize("noun", NOUNS)
def test_code_dependencies_cover_the_imports(noun: str) -> None:
    listed = [dep for dep in stages()[noun]["deps"] if not dep.startswith("data/")]
    needed = [path.as_posix() for path in closure(f"flows.{noun}")]
    assert len(needed) > 0

    def covers(dep: str, path: str) -> bool:
        return path == dep or path.startswith(f"{dep}/")

    missing = [path for path in needed if not any(covers(dep, path) for dep in listed)]
    assert not missing, f"add to deps of {noun} in dvc.yaml: {missing}"
    idle = [dep for dep in listed if not any(covers(dep, path) for path in needed)]
    assert not idle, f"remove from deps of {noun} in dvc.yaml: {idle}"


@pytest.mark.parametrize("noun", NOUNS)
def test_every_stage_tracks_the_schema_and_its_own_block(noun: str) -> None:
    tracked = stages()[noun]["params"]
    assert {"dcpipe/store/artifact.py": ["SCHEMA"]} in tracked
    assert any(isinstance(entry, str) and entry.split(".")[0] == noun for entry in tracked)


@pytest.mark.parametrize("noun", NOUNS)
def test_parameters_a_flow_reads_are_tracked(noun: str) -> None:
    """`run.params.BLOCK` in a flow means BLOCK is in its params; images reads selection.ipc only to refuse early."""
    text = (ROOT / "flows" / f"{noun}.py").read_text(encoding="utf-8")
    tracked = {entry.split(".")[0] for entry in stages()[noun]["params"] if isinstance(entry, str)}
    read = {other for other in NOUNS if f"params.{other}" in text}
    assert read
    allowed = {"images": {"selection"}, "synthesis": {"teacher"}, "evaluation": {"synthesis"}}
    assert read - tracked <= allowed.get(noun, set())


def studied() -> dict[str, dict]:
    stages: dict[str, dict] = yaml.safe_load((ROOT / "studies/dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return stages


def test_every_study_is_a_stage_of_the_file_beside_the_line() -> None:
    assert tuple(studied()) == STUDIES
    assert not any("study" in stage["cmd"] for stage in stages().values()), "a plain `dvc repro` runs no study"
    blocks = {"softlabels", "compression", "evaluation"}
    for name, stage in studied().items():
        flow, key = {
            "labels": ("studies.codecs", ""),
            "resilience": ("studies.resilience", ""),
            "sizes": ("studies.sizes", ""),
            **{variants: ("studies.variants", variants) for variants in VARIANTS},
        }.get(name, ("studies.selectors", name))
        # Variants change any block: the whole of params.yaml is theirs.
        whole = name in (*VARIANTS, "sizes")
        read = set() if whole else blocks - {"compression"} if name == "labels" else blocks
        assert (stage["wdir"], stage["cmd"]) == ("..", f"python -m flows.{flow} {key}".rstrip())
        assert stage["outs"] == [f"data/study/{name}"]
        assert {"studies/params.yaml": [name]} in stage["params"]
        assert {"dcpipe/store/artifact.py": ["SCHEMA"]} in stage["params"]
        assert read == {e for e in stage["params"] if isinstance(e, str)}
        assert ({"params.yaml": None} in stage["params"]) == whole
        listed = [dep for dep in stage["deps"] if not dep.startswith("data/")]
        needed = [path.as_posix() for path in closure(f"flows.{flow}")]
        assert [p for p in needed if not any(p == dep or p.startswith(f"{dep}/") for dep in listed)] == []
        assert [dep for dep in listed if not any(p == dep or p.startswith(f"{dep}/") for p in needed)] == []


def test_parameters_a_study_reads_are_tracked() -> None:
    for module in (
        "studies/selectors",
        "studies/codecs",
        "studies/resilience",
        "contenders",
        "softlabels",
        "compression",
    ):
        text = (ROOT / "flows" / f"{module}.py").read_text(encoding="utf-8")
        read = {other for other in NOUNS if f"params.{other}" in text}
        assert read <= {"softlabels", "compression", "evaluation"}, module


def test_readme_shows_the_line_as_dvc_draws_it() -> None:
    drawn = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--mermaid", "release"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    edges = {line.strip() for line in drawn.splitlines() if "[" in line or "-->" in line}
    assert len(edges) > 15
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = sorted(edge for edge in edges if edge not in readme)
    assert not missing, f"paste the output of `dvc dag --mermaid release` into README.md; it lacks {missing}"


def test_unimported_folders_do_not_count(tmp_path: Path) -> None:
    """The closure is of imports: a stage does not depend on its neighbours' code."""
    assert "dcpipe/evaluation/students.py" not in [path.as_posix() for path in closure("flows.images")]
    assert "dcpipe/training/loop.py" in [path.as_posix() for path in closure("flows.teacher")]
