"""Making a workspace: a new folder, a folder of a repository, and what is in the way."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from dcpipe import studies
from dcpipe.config import params, presets
from dcpipe.types import DataError
from dcpipe.workspace import digests, making

ROOT = Path(__file__).resolve().parents[2]
PARAMS = presets.text("digits")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"dcpipe": "1", "schema": "1", "images": "a"}
    monkeypatch.setattr(digests, "installed", lambda: found)


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout


def test_a_new_folder_is_a_repository_with_all_that_a_build_needs(tmp_path: Path) -> None:
    root = tmp_path / "some" / "set"
    told = making.make(root, PARAMS)
    assert told[0].startswith("DVC gives files to this workspace by ") or "cannot link" in told[0]
    assert (root / "params.yaml").read_text(encoding="utf-8") == PARAMS
    for path in ("data/.gitignore", "studies/params.yaml"):
        assert (root / path).read_text(encoding="utf-8") == (ROOT / path).read_text(encoding="utf-8")
    content = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    assert content["artifacts"] == {"digits-score": {"path": "data/release", "type": "dataset"}}
    assert "digits-score@v1.0.0" in (root / "README.md").read_text(encoding="utf-8")
    assert digests.recorded(root) == digests.installed()
    status = git(root, "status", "--porcelain").splitlines()
    assert all(line.startswith("A  ") for line in status), "all is added, and nothing is committed"
    assert {"A  .gitignore", "A  code.yaml", "A  params.yaml", "A  data/dvc.yaml", "A  .dvc/config"} <= set(status)
    assert making.is_workspace(root)


def test_studies_have_no_variants_for_teachers_that_are_not_there(tmp_path: Path) -> None:
    """So that `dcpipe check` of a new workspace does not begin with notes about studies that do not apply, apart from
    `slimming`, whose note says which teacher to add."""
    content = yaml.safe_load(PARAMS)
    networks = content["teacher"]["networks"]
    assert "resnet" in networks
    del networks["resnet"]
    making.make(tmp_path / "set", yaml.safe_dump(content))
    path = tmp_path / "set" / "studies/params.yaml"
    variants = yaml.safe_load(path.read_text(encoding="utf-8"))["syntheses"]["variants"]
    whole = yaml.safe_load((ROOT / "studies/params.yaml").read_text(encoding="utf-8"))["syntheses"]["variants"]
    assert whole.keys() - variants.keys() == {"sre2l", "cda"}
    [note] = studies.problems(params.parse(content), content, path)
    assert "study slimming does not apply: no teacher has batch norms" in str(note)


def test_a_folder_of_a_repository_stays_a_part_of_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").touch()
    told = making.make(tmp_path / "sets" / "one", PARAMS)
    assert told[0] == f"The workspace is a folder of the git repository {tmp_path}."
    assert not (tmp_path / "sets" / "one" / ".git").exists()
    assert (tmp_path / "sets" / "one" / ".dvc").is_dir()
    status = git(tmp_path, "status", "--porcelain").splitlines()
    assert "A  sets/one/params.yaml" in status and "?? file" in status


@pytest.mark.parametrize("name", ["params.yaml", "studies/params.yaml", ".gitignore"])
def test_a_file_in_the_way_stops_it_before_anything_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=rf"has {name} already; give a folder that is new, or remove it$"):
        making.make(tmp_path, PARAMS)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]
    with pytest.raises(DataError, match="is a file; give a folder that is new or empty"):
        making.make(tmp_path / name, PARAMS)


def test_without_git_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"git is not installed, .*; install git"):
        making.make(tmp_path / "set", PARAMS)
    assert not (tmp_path / "set").exists()


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`git add nothing` failed in .*: .*; correct it and run again"):
        making._run(tmp_path, "git", "add", "nothing")
