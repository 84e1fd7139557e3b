"""What a stage reads: opened where it lies, named in the lineage, refused when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import parts

from dcpipe import store
from dcpipe.types import DataError
from flows.running.inputs import Inputs


@pytest.fixture
def workspace(scratch: Path) -> Path:
    """An artifact of images, scores and two teachers."""
    some, root = parts(), scratch.parent

    def publish(folder: str, noun: str) -> None:
        staging = root / "staging"
        staging.mkdir()
        meta = store.save_teacher(staging, some.teacher) if noun == "teacher" else {"noun": noun}
        store.publish(staging, root / "data" / folder, noun, meta, {})

    for folder, noun in (
        ("images", "images"),
        ("evaluation/scores", "scores"),
        ("teacher/main", "teacher"),
        ("teacher/other", "teacher"),
    ):
        publish(folder, noun)
    return root


def test_artifacts_are_found_by_kind_and_teachers_by_key(workspace: Path) -> None:
    inputs = Inputs.open("images", "scores", teachers=["other", "main"])
    assert inputs["images"].meta == {"noun": "images"} and inputs.path("scores") == Path("data/evaluation/scores")
    assert list(inputs.teachers) == list(inputs.load_teachers()) == ["other", "main"]
    size = (workspace / "data/teacher/main/weights.safetensors").stat().st_size
    assert inputs.teacher_bytes == {"other": size, "main": size}
    digests = {name: store.open_artifact(Path("data") / name, name).digest for name in ("images",)}
    assert inputs.lineage["images"] == digests["images"]
    assert list(inputs.lineage) == ["images", "scores", "teacher main", "teacher other"]
    assert list(inputs.without("scores").lineage) == ["images", "teacher main", "teacher other"]


def test_what_is_missing_or_changed_is_refused(workspace: Path) -> None:
    with pytest.raises(
        DataError, match=r"^data/features contains no features \(no artifact\.json\); run `dvc repro` or "
    ):
        Inputs.open("images", "features")
    with pytest.raises(DataError, match=r"^data/teacher/third contains no teacher "):
        Inputs.open("images", teachers=["main", "third"])
    path = workspace / "data/teacher/main/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        Inputs.open(teachers=["main"])
