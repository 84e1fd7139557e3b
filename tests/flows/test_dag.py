"""dvc.yaml agrees with the code: stages, code dependencies and parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dcpipe.config.params import Params
from dcpipe.studies import STUDIES
from dcpipe.workspace.code import closure

ROOT = Path(__file__).resolve().parents[2]
NOUNS = list(Params.model_fields)


def stages() -> dict[str, dict]:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in content.items()}


def test_stage_block_and_flow_have_the_same_name() -> None:
    assert list(stages()) == NOUNS
    for noun in NOUNS:
        assert (ROOT / "flows" / f"{noun}.py").is_file()
        home = ROOT / "dcpipe" / noun
        assert home.with_suffix(".py").is_file() or (home / "__init__.py").is_file()
        assert stages()[noun]["cmd"].startswith(f"python -m flows.{noun}")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_stage_tracks_the_schema_and_its_own_block(noun: str) -> None:
    tracked = stages()[noun]["params"]
    assert {"dcpipe/store/artifact.py": ["SCHEMA"]} in tracked
    assert any(isinstance(entry, str) and entry.split(".")[0] == noun for entry in tracked)


@pytest.mark.parametrize("noun", NOUNS)
def test_parameters_a_flow_reads_are_tracked(noun: str) -> None:
    """`run.params.BLOCK` in a flow means BLOCK is in its params; images reads selection and synthesis only to refuse
    early, and compression reads the others only for a line that it prints."""
    text = (ROOT / "flows" / f"{noun}.py").read_text(encoding="utf-8")
    tracked = {entry.split(".")[0] for entry in stages()[noun]["params"] if isinstance(entry, str)}
    read = {other for other in NOUNS if f"params.{other}" in text}
    assert read
    allowed = {"images": {"selection", "synthesis"}, "synthesis": {"teacher"}, "evaluation": {"synthesis"}}
    allowed["compression"] = {"features", "synthesis"}
    assert read - tracked <= allowed.get(noun, set())


STUDIES_FILE = yaml.safe_load((ROOT / "studies/dvc.yaml").read_text(encoding="utf-8"))


def test_every_study_is_a_stage_and_a_plain_repro_runs_none() -> None:
    assert list(STUDIES_FILE["stages"]) == list(STUDIES)
    assert not any("studies" in stage["cmd"] for stage in stages().values())


def test_parameters_a_study_reads_are_tracked() -> None:
    """`self.params.BLOCK` in a study's file, or in one that it shares, means BLOCK is in its params."""
    shared = {
        "selection": ("coresets",),
        "coefficients": ("coresets", "selection"),
        "resilience": ("coresets",),
        "labels": (),
    }
    for name, others in shared.items():
        text = "".join((ROOT / "dcpipe/studies" / f"{file}.py").read_text(encoding="utf-8") for file in (name, *others))
        read = {other for other in NOUNS if f"params.{other}" in text}
        reads = STUDIES[name].reads
        assert reads is not None and read == set(reads), name
    assert all(STUDIES[name].reads is None for name in set(STUDIES) - set(shared))


def test_unimported_folders_do_not_count(tmp_path: Path) -> None:
    """The closure is of imports: a stage does not depend on its neighbours' code."""
    assert "dcpipe/evaluation/students.py" not in [path.as_posix() for path in closure("flows.images")]
    assert "dcpipe/training/loop.py" in [path.as_posix() for path in closure("flows.teacher")]
