"""`--json`: what commands show, as numbers for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import releases

from dcpipe import store
from dcpipe.cli import commands as cli
from dcpipe.config import presets


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a command and returns its exit code, the JSON on its output, and its errors."""

    def run(*words: str) -> tuple[int, Any, str]:
        code = cli.main([*words, "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return run


def test_the_list_of_presets(workspace: Path, said: Any) -> None:
    code, found, _ = said("init", "--list")
    assert code == 0 and [one["name"] for one in found] == [*presets.names()]
    code, found, _ = said("init", "--list", "imagenet-1k-ipc10")
    assert {"name": "imagenet-1k-ipc10", "classes": 1000, "ipc": 10}.items() <= found[0].items()
    assert found[0].keys() == {"name", "dataset", "classes", "ipc", "source", "published", "cost"}
    code, found, error = said("init", "digits")
    assert (code, found) == (2, None)
    assert error == "dcpipe: --json is for the list of presets; write `dcpipe init --list --json`\n"
    assert not list(workspace.iterdir())


def test_status(workspace: Path, said: Any) -> None:
    (workspace / "params.yaml").write_text(presets.text("digits"), encoding="utf-8")
    some = releases.parts()
    assert some.pack is not None
    releases.build(workspace / "data/release", some)
    for place, kind, save in (
        ("teacher/first", "teacher", lambda folder: store.save_teacher(folder, some.teacher)),
        ("evaluation/scores", "scores", lambda folder: store.save_scores(folder, some.scores)),
    ):
        bench = workspace / f"bench-{kind}"
        bench.mkdir()
        store.publish(bench, workspace / "data" / place, kind, save(bench), {})
    (workspace / "data/compression").mkdir()
    store.save_pack(workspace / "data/compression/labels.safetensors", some.pack)
    code, found, error = said("status")
    assert (code, error) == (0, "") and found["leakage"] is None
    stages = {(stage["stage"], stage["key"]): stage for stage in found["stages"]}
    assert [key for key, stage in stages.items() if stage["made"]] == [
        ("teacher", "first"),
        ("evaluation", None),
        ("release", None),
    ]
    assert stages["release", None]["bytes"] == store.folder_bytes(workspace / "data/release")
    assert stages["release", None]["digest"] == store.open_artifact(workspace / "data/release", "release").digest
    first, _ = found["scores"]
    assert (first["name"], first["accuracy"], first["mean"], first["std"]) == ("score, none", [60, 61, 62], 61, 1)
    assert (first["image_bytes"], first["label_bytes"], first["total_bytes"]) == (4321, 999, 5320)
    assert first["fp16_label_bytes"] == 2 * 12 * 5 * 3
    code, found, _ = said("status", "--verify")
    assert code == 0 and found["damaged"] == []
    assert [one["path"] for one in found["whole"]] == ["data/evaluation/scores", "data/release", "data/teacher/first"]
    (workspace / "data/release/scores.json").write_bytes(b"x")
    code, found, error = said("status", "--verify")
    assert code == 2 and len(found["damaged"]) == 1 == error.count("\n") and "scores.json" in found["damaged"][0]


def test_inspect(workspace: Path, said: Any) -> None:
    releases.build(workspace / "fish", releases.parts())
    code, found, _ = said("inspect", "fish")
    files = {file["name"]: file for file in found["files"]}
    assert code == 0 and found["bytes"] == sum(path.stat().st_size for path in (workspace / "fish").iterdir())
    assert found["verified"][0].startswith("verified, 5 files, digest ")
    labels = files["labels.safetensors"]
    [logits] = [array for array in labels["arrays"] if array["name"] == "logits"]
    assert logits == {"name": "logits", "dtype": "F16", "shape": [12, 5, 3], "bytes": 360}
    assert json.loads(labels["header"]["dcpipe"])["codec"] == "none"
    assert sum(array["bytes"] for array in labels["arrays"]) == labels["bytes"]


def test_check(workspace: Path, said: Any) -> None:
    path = workspace / "params.yaml"
    path.write_text(presets.text("digits"), encoding="utf-8")
    code, found, error = said("check")
    assert (code, error) == (0, "") and found["mistakes"] == [] and found["file"] == "params.yaml"
    assert (found["name"], found["classes"]) == ("digits-score", 10)
    assert 0 < found["label_bytes"] < found["fp16_label_bytes"]
    path.write_text(path.read_text(encoding="utf-8").replace("method: score", "method: scor"), encoding="utf-8")
    code, found, error = said("check")
    assert code == 2 and found["label_bytes"] is None
    assert [f"dcpipe: {mistake}" for mistake in found["mistakes"]] == error.splitlines() and "'scor'" in error
