"""Synthesis in a real line: every method by `dvc repro`, a killed recovery, and a ladder in miniature."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspaces import TINY, Workspace, stages_run

from dcpipe import store

pytestmark = pytest.mark.pipeline
# Two teachers: methods that match batch norms alone need the second, which observes only.
TEACHER = {
    "networks": {"convnet": {"network": "convnet-d2-w4"}, "resnet": {"network": "resnet10-w2"}},
    "training": {**TINY["teacher"]["training"], "epochs": 2},
}
SMALL: dict[str, Any] = {
    "teacher": TEACHER,
    "selection": {"method": "random", "ipc": 3},
    "softlabels": {**TINY["softlabels"], "mix": "none"},
    "evaluation": {**TINY["evaluation"], "student": "convnet-d1-w4", "epochs": 1, "baselines": []},
}
METHODS: dict[str, dict[str, Any]] = {
    "rded": {"candidates": 12, "crops": 2, "scale_min": 0.5},
    "sre2l": {"observers": ["resnet"], "iterations": 5, "jitter": 1},
    "gvbsm": {"iterations": 4, "pad": 1, "jitter": 1},
    "edc": {"iterations": 4},
}
LADDER: dict[str, Any] = {
    "variants": {
        "start": {"synthesis": {"method": "gvbsm", "options": {"iterations": 2, "jitter": 1}}},
        "real-start": {"synthesis": {"method": "edc", "options": {"iterations": 2, "alpha": 1.0, "flat": 0.0}}},
        "flatness": {"synthesis": {"options": {"flat": 0.25}}},
        "smoothing": {"evaluation": {"zeta": 2.0}},
    },
    "ipc": [3],
    "seeds": [0, 1, 2],
}


def method_of(workspace: Workspace, method: str, **options: Any) -> None:
    workspace.params(**SMALL, synthesis={"method": method, "options": options})


@pytest.fixture(scope="module")
def built(make_workspace: Callable[[str], Workspace]) -> Iterator[Workspace]:
    """A workspace whose line has run up to what synthesis starts from; tests copy it."""
    workspace = make_workspace("synthesis")
    method_of(workspace, "none")
    workspace.run("dvc", "repro", "selection", "teacher@resnet")
    yield workspace


@pytest.fixture
def workspace(built: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    return built.copy(tmp_path)


def test_every_method_is_a_value_of_synthesis_method(workspace: Workspace) -> None:
    """Changed in params.yaml alone: other images come out. Of the last, students learn and a release holds it."""
    seen: set[str] = set()
    selected = store.load_selection(workspace.root / "data/selection")
    cases = {
        method: {**SMALL, "synthesis": {"method": method, "options": options}} for method, options in METHODS.items()
    }
    for method, folder in workspace.each("synthesis", cases):
        artifact = store.open_artifact(folder, "synthesis")
        assert artifact.digest not in seen, method
        seen.add(artifact.digest)
        condensed = store.load_set(artifact.path)
        assert condensed.ids.tolist() == selected.ids.tolist() and condensed.images.shape == (30, 8, 8, 3)
    told = workspace.run("dvc", "repro")
    assert "Running stage 'synthesis'" in told and "Running stage 'selection'" not in told
    assert "Running stage 'evaluation'" in told and "Running stage 'release'" in told
    assert store.open_artifact(workspace.root / "data/synthesis", "synthesis").digest == artifact.digest
    [score, *_] = store.load_scores(workspace.root / "data/evaluation/scores")
    assert score.name == f"{method}, svd" and len(score.accuracy) == 3
    released = workspace.root / "data/release/images.parquet"
    assert score.image_bytes == (artifact.path / "images.parquet").stat().st_size
    assert released.is_file() and method in (workspace.root / "data/release/README.md").read_text(encoding="utf-8")
    assert stages_run(workspace.run("dvc", "repro")) == []


def test_a_killed_recovery_ends_with_the_same_images(workspace: Workspace) -> None:
    """SIGKILL between checkpoints, and the checkpoint is what it goes on from."""
    method_of(workspace, "edc", iterations=100, batch_size=10)
    env = {"DCPIPE_CHECKPOINT_SECONDS": "0"}
    folder = workspace.root / "data/synthesis"
    workspace.stage("synthesis")
    unbroken = store.open_artifact(folder, "synthesis").digest
    shutil.rmtree(folder)

    def place() -> int:
        """Steps of finished batches and of the one that has a checkpoint, of 100 a batch; -1 without one."""
        finished = [kept for number in range(10) if (kept := workspace.kept(f"recovery-{number:05d}.pt"))]
        try:
            kept = workspace.kept(f"recovery-{len(finished):05d}-open.pt")
        except FileNotFoundError:  # the batch was finished just now
            kept = {}
        if not finished and not kept:
            return -1
        return 100 * len(finished) + (int(kept["state"]["step"]) if kept else 0)

    first = workspace.kill("synthesis", place, 20, **env)
    second = workspace.kill("synthesis", place, 120, **env)
    assert not folder.exists(), "the run published before it could be killed"
    assert 20 <= first[-1] < 120 <= second[-1] < 300, "the second run went on from the first one's checkpoint"
    workspace.stage("synthesis", **env)
    assert store.open_artifact(folder, "synthesis").digest == unbroken


def test_a_ladder_is_made_once_and_shown(workspace: Workspace) -> None:
    path = workspace.root / "studies/params.yaml"
    path.write_text(yaml.safe_dump({"ladder": LADDER}, sort_keys=False), encoding="utf-8")
    told = workspace.run("dvc", "repro", "studies/dvc.yaml:ladder")
    assert "Running stage 'studies/dvc.yaml:ladder'" in told
    assert "Running stage 'teacher@convnet'" not in told, "what the line has made is not made again"
    folder = workspace.root / "data/study/ladder"
    store.open_artifact(folder, "study")
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["variant"], row["synthesis"]) for row in rows] == [
        ("start", "gvbsm"),
        ("real-start", "edc"),
        ("flatness", "edc"),
        ("smoothing", "edc"),
    ]
    assert rows[0]["gain"] == "" and all(row["gain"] for row in rows[1:])
    again = workspace.run("dcpipe", "study", "ladder", COLUMNS="120")
    assert stages_run(again) == [] and "gain" in again and "smoothing" in again
    assert stages_run(workspace.run("dvc", "repro", "selection")) == [], "a study changes nothing in the line"
