"""Files about what the pipeline reads from outside the workspace; `tests/flows/test_sources.py` has the whole stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcpipe.images import SOURCES, outside


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_teacher_gets_a_hash_nothing_or_none() -> None:
    content = outside.list_sources(SOURCES["digits"], {}, {"a": "12", "b": "", "c": None}, print)
    assert {key: content[f"teacher-{key}"] for key in "abc"} == {"a": {"sha256": "12"}, "b": {}, "c": None}
    images = content["images"]
    assert images is not None and images["files"] == 0


def test_what_is_not_here_keeps_its_file_and_what_is_not_named_loses_it(workspace: Path) -> None:
    said: list[str] = []
    options = {"path": str(workspace / "nowhere")}
    assert outside.list_sources(SOURCES["imagefolder"], options, {}, said.append) == {"images": None} and said == []
    outside.write({"images": {"files": 3}, "teacher-a": {"sha256": "1"}, "teacher-b": {}})
    outside.write(outside.list_sources(SOURCES["imagefolder"], options, {"a": None}, said.append))
    assert len(said) == 1 and said[0].endswith("continuing with the earlier listing in data/sources")
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in outside.FOLDER.iterdir()}
    assert found == {"images.json": {"files": 3}, "teacher-a.json": {"sha256": "1"}}
