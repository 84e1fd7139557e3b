"""What `artifact.json` may say: every malformed one is a sentence that names the file, the field and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kinds import KINDS

from dcpipe import store
from dcpipe.store import manifest
from dcpipe.store.manifest import MANIFEST, locate, plain_name, read_manifest, written
from dcpipe.types import DataError

RECORD = {"bytes": 3, "sha256": "0" * 64}


def made(root: Path) -> tuple[Path, dict[str, Any]]:
    out = KINDS["scores"].publish(root).path
    return out, json.loads((out / MANIFEST).read_text(encoding="utf-8"))


def refusal(folder: Path, content: Any) -> str:
    """What is said of a manifest whose digests are right."""
    if isinstance(content, dict) and {"meta", "files", "noun"} <= content.keys():
        content["digest"] = manifest.content_digest(1, content["noun"], content["meta"], content["files"])
    text = content if isinstance(content, bytes) else json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(DataError) as error:
        store.open_artifact(folder, "scores")
    return str(error.value)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "files a list": ({"files": []}, "files: Input should be a valid dictionary"),
    "a record a text": ({"files": {"scores.json": "x"}}, "files.scores.json: Input should be a valid dictionary"),
    "no sha256": ({"files": {"a": {"bytes": 1}}}, "files.a.sha256: Field required"),
    "a short sha256": ({"files": {"a": {**RECORD, "sha256": "0"}}}, "files.a.sha256: String should match pattern"),
    "bytes below 0": ({"files": {"a": {**RECORD, "bytes": -1}}}, "files.a.bytes: Input should be greater than or equ"),
    "bytes a text": ({"files": {"a": {**RECORD, "bytes": "3"}}}, "files.a.bytes: Input should be a valid integer"),
    "bytes beyond any disk": ({"files": {"a": {**RECORD, "bytes": 10**30}}}, "files.a.bytes: "),
    "arrays a list": ({"arrays": []}, "arrays: Input should be a valid dictionary"),
    "meta a list": ({"meta": []}, "meta: Input should be a valid dictionary"),
    "lineage missing": ({"lineage": None}, "lineage: Input should be a valid dictionary"),
    "a provenance that is none": ({"provenance": "x"}, "provenance: String should match pattern"),
    "another key": ({"provenances": 1}, "provenances: Extra inputs are not permitted"),
    "noun a number": ({"noun": 3}, "noun: Input should be a valid string"),
    "a schema that is no number": ({"schema": "1"}, "schema: Input should be a valid integer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named(case: str, tmp_path: Path) -> None:
    change, sentence = WRONG[case]
    out, content = made(tmp_path)
    told = refusal(out, {**content, **change})
    assert told.startswith(f"{out / MANIFEST} is damaged ({sentence}")
    assert told.endswith(f"; remove {out} and run `dvc repro`")


TEXTS = {
    "deep lists": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 1_000_000,
    "nested beyond the limit": b"[" * 100 + b"]" * 100,
    "no Unicode": b'{"schema": "\xff"}',
    "half a letter": b'{"schema": "\\ud800"}',
    "a key twice": b'{"schema": 1, "schema": 1}',
    "a number of a million digits": b'{"schema": ' + b"9" * 1_000_000 + b"}",
    "nothing": b"",
    "zeros": b"\x00" * 100,
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_not_a_manifest(case: str, tmp_path: Path) -> None:
    out, _ = made(tmp_path)
    told = refusal(out, TEXTS[case])
    assert told.startswith(f"{out / MANIFEST} is damaged (") and len(told) < 500 + len(str(out)) and "\n" not in told


def test_a_manifest_is_read_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = made(tmp_path)
    monkeypatch.setattr(manifest, "MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"artifact.json has [0-9]{3} bytes, more than the 100 it may have; remove"):
        store.open_artifact(out, "scores")


def test_too_many_files_and_too_long_names(tmp_path: Path) -> None:
    out, content = made(tmp_path)
    many = {f"{number}": RECORD for number in range(manifest.MAX_FILES + 1)}
    assert "files: Dictionary should have at most 100000 items" in refusal(out, {**content, "files": many})
    told = refusal(out, {**content, "files": {"x" * 2000: RECORD}})
    assert "a name of a file has 1 to 1000 characters" in told and len(told) < 500 + 2 * len(str(out))


@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "a/../../outside", "..", "/etc/passwd", "a//b", "a/./b", "a/", "", ".", "C:/x", "C:x", "a\\b"),
        *("..\\x", "a\nb", "a\x00b", "a\x1b[2J", "x" * 256, MANIFEST, "a?b", "\u202e"),
    ],
)
def test_names_that_may_lead_elsewhere(name: str, tmp_path: Path) -> None:
    out, content = made(tmp_path)
    told = refusal(out, {**content, "files": {**content["files"], name: RECORD}})
    assert told.startswith(f"{out / MANIFEST} is damaged (files.") and told.isprintable()
    with pytest.raises(DataError) as error:
        locate(out, name)
    assert str(error.value).startswith(f"{out} has no file ") and str(error.value).isprintable()


@pytest.mark.parametrize("name", ["a", "a/b.c", "ÄÖ/猫.png", "..a", "a..", "score, none.png", "-x", " x", "x" * 255])
def test_names_inside_the_folder(name: str) -> None:
    assert plain_name(name) == name


def test_a_file_named_with_a_link_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert locate(tmp_path, "real/file") == tmp_path / "real" / "file"
    with pytest.raises(DataError, match="link is a symbolic link that leads out of DVC's cache"):
        locate(tmp_path, "link/file")
    assert locate(tmp_path / "link", "file").is_file(), "the folder itself may be one: it is what the user named"


def test_the_text_must_be_as_it_is_written(tmp_path: Path) -> None:
    out, content = made(tmp_path)
    path = out / MANIFEST
    assert path.read_bytes() == written(content)
    assert read_manifest(out, store.SCHEMA).covered
    for text in (json.dumps(content).encode(), path.read_bytes().replace(b"\n", b"\r", 1)):
        path.write_bytes(text)
        with pytest.raises(DataError, match=r"artifact.json is damaged: it is not written as dcpipe writes it; remove"):
            read_manifest(out, store.SCHEMA)


def test_a_stage_that_writes_what_nobody_could_read_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a:b").write_bytes(b"x")
    with pytest.raises(DataError, match=r"artifact.json is damaged \(files.a:b"):
        store.publish(folder, tmp_path / "out", "x", {}, {})
    assert not (tmp_path / "out").exists()
