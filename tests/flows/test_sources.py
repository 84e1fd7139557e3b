"""What is listed of the sources, and which folders of teachers stay."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_server import FakeServer

from dcpipe.config import presets
from dcpipe.config.params import load_blocks
from flows import sources


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCPIPE_PREFECT", "off")
    write_params(tmp_path)
    return tmp_path


def write_params(workspace: Path, **blocks: Any) -> None:
    content = yaml.safe_load(presets.text("digits")) | blocks
    (workspace / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def listed(workspace: Path) -> dict[str, Any]:
    """What the stage leaves."""
    sources.main([])
    folder = workspace / "data" / "sources"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()}


def image_folder(workspace: Path) -> dict[str, Any]:
    for split in ("train", "val"):
        for name in "ab":
            (workspace / "set" / split / name).mkdir(parents=True)
            (workspace / "set" / split / name / "0.png").write_bytes(b"12345")
    return {"source": "imagefolder", "options": {"path": "set"}, "size": 8, "minival": 0.1, "seed": 0}


def teacher(**weights: str) -> dict[str, Any]:
    networks = {key: {"network": "convnet-d2-w8", "weights": path} for key, path in weights.items()}
    return {"networks": networks, "training": {"epochs": 0, "batch_size": 64, "optimizer": "adamw", "lr": 0.01}}


def test_it_says_once_for_all_stages_who_shows_them(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCPIPE_PREFECT", "auto")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    listed(workspace)
    assert capsys.readouterr().err == "sources: no Prefect server at http://127.0.0.1:9/api; running without Prefect\n"
    with FakeServer() as server:
        monkeypatch.setenv("PREFECT_API_URL", server.url)
        listed(workspace)
    assert capsys.readouterr().err == f"sources: Prefect shows the runs at {server.url.removesuffix('/api')}/runs\n"
    monkeypatch.setenv("DCPIPE_PREFECT", "off")
    listed(workspace)
    assert capsys.readouterr().err == ""
    assert len(list((workspace / ".dcpipe/logs").glob("*-sources-*.log"))) >= 1


def test_the_digits_have_no_files_and_teachers_trained_here_no_weights(workspace: Path) -> None:
    made = listed(workspace)
    keys = list(load_blocks(Path("params.yaml")).teacher.networks)
    assert set(made) == {"images", *(f"teacher-{key}" for key in keys)}
    assert made["images"]["files"] == 0 and all(made[f"teacher-{key}"] == {} for key in keys)


def test_nothing_is_written_where_nothing_changed(workspace: Path) -> None:
    listed(workspace)
    before = {path: path.stat().st_mtime_ns for path in (workspace / "data" / "sources").iterdir()}
    listed(workspace)
    assert {path: path.stat().st_mtime_ns for path in (workspace / "data" / "sources").iterdir()} == before


def test_a_changed_image_and_changed_weights_change_the_listing(workspace: Path) -> None:
    weights = workspace / "weights.pth"
    weights.write_bytes(b"first")
    write_params(workspace, images=image_folder(workspace), teacher=teacher(one=str(weights)))
    first = listed(workspace)
    assert first["images"]["files"] == 4
    assert first["teacher-one"] == {"sha256": hashlib.sha256(b"first").hexdigest()}
    (workspace / "set" / "train" / "a" / "0.png").write_bytes(b"123456")
    weights.write_bytes(b"other")
    second = listed(workspace)
    assert second["images"] != first["images"] and second["teacher-one"] != first["teacher-one"]


def test_sources_that_are_elsewhere_keep_what_was_listed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = workspace / "weights.pth"
    weights.write_bytes(b"first")
    write_params(workspace, images=image_folder(workspace), teacher=teacher(one=str(weights)))
    first = listed(workspace)
    weights.unlink()
    (workspace / "set").rename(workspace / "moved")
    assert listed(workspace) == first
    said = capsys.readouterr().err
    assert (
        "sources: set/train cannot be listed" in said and "continuing with the earlier listing in data/sources" in said
    )


def test_teachers_that_nobody_names_leave_the_folder_that_stages_depend_on(workspace: Path) -> None:
    keys = list(load_blocks(Path("params.yaml")).teacher.networks)
    for name in (*keys, "old"):
        (workspace / "data" / "teacher" / name).mkdir(parents=True)
        (workspace / "data" / "teacher" / name / "artifact.json").write_text(name, encoding="utf-8")
    listed(workspace)
    assert sorted(path.name for path in (workspace / "data" / "teacher").iterdir()) == sorted(keys)
    former = workspace / ".dcpipe" / "former" / "teacher"
    assert (former / "old" / "artifact.json").read_text(encoding="utf-8") == "old"
    (workspace / "data" / "teacher" / "old").mkdir()
    listed(workspace)
    assert sorted(path.name for path in former.iterdir()) == ["old", "old-2"], "nothing is overwritten"


def test_wrong_parameters_stop_in_one_sentence(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "params.yaml").unlink()
    with pytest.raises(SystemExit) as stop:
        sources.main([])
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("sources: params.yaml not found; run `dcpipe init PRESET`")
