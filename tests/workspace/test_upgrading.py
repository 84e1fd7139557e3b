"""Upgrades: what they say, what they write, and where there is nothing to upgrade."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dcpipe.types import DataError
from dcpipe.workspace import digests, dvcfiles
from dcpipe.workspace.upgrading import upgrade

ROOT = Path(__file__).resolve().parents[2]
NOW = {"dcpipe": "2.0", "schema": "1", "images": "a", "teacher": "b"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that this version has made."""
    monkeypatch.setattr(digests, "installed", lambda: dict(NOW))
    for path, content in dvcfiles.dvc_files(dvcfiles.Digests()).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(dvcfiles.text(path, content), encoding="utf-8")
    for path, text in dvcfiles.templates().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    digests.write(tmp_path, NOW)
    return tmp_path


def test_nothing_to_do(root: Path) -> None:
    found = upgrade(root)
    assert (found.stale, found.files) == ([], {})
    assert list(found.lines()) == ["The workspace is up to date with dcpipe 2.0."]


def test_stages_with_other_code_are_named_and_then_written(root: Path) -> None:
    digests.write(root, {**NOW, "dcpipe": "1.0", "teacher": "old"})
    found = upgrade(root)
    assert list(found.lines()) == [
        "From dcpipe 1.0 to 2.0:",
        "  the code of teacher has changed; `dvc repro` will run these and what follows",
    ]
    assert upgrade(root).stale == ["teacher"], "nothing is written before `apply`"
    found.apply()
    assert digests.recorded(root) == NOW and upgrade(root).stale == []


def test_a_file_of_another_version_is_written_anew_and_keeps_its_artifacts(root: Path) -> None:
    path = root / "dvc.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    del content["stages"]["release"]
    path.write_text(yaml.safe_dump({**content, "artifacts": {"mine": {"path": "data/release"}}}), encoding="utf-8")
    (root / "studies" / "dvc.yaml").unlink()
    (root / ".dvc/plots/curves.json").write_text("{}", encoding="utf-8")
    found = upgrade(root)
    assert [*found.files] == ["dvc.yaml", "studies/dvc.yaml", ".dvc/plots/curves.json"] and found.stale == []
    assert "  dvc.yaml is written anew; `git diff dvc.yaml` shows what changed" in list(found.lines())
    found.apply()
    assert upgrade(root).files == {}
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["artifacts"] == {"mine": {"path": "data/release"}}


def test_a_workspace_without_code_yaml_gets_one(root: Path) -> None:
    (root / "code.yaml").unlink()
    upgrade(root).apply()
    assert digests.recorded(root) == NOW


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no dvc\.yaml; change to the folder of a workspace, or make one with "):
        upgrade(tmp_path)
    with pytest.raises(DataError, match="is a checkout of dcpipe, whose stages depend on its files"):
        upgrade(ROOT)
