"""Artifact folders of every kind: what is written is read again, and a changed byte is an error that names the file."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS, Kind, assert_same, image_set, scores, selection, teacher

from dcpipe import store
from dcpipe.types import DataError

MANIFEST = "artifact.json"


def data_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def refusal(kind: Kind, path: Path) -> str:
    with pytest.raises(DataError) as error:
        kind.load(path)
    return str(error.value)


MADE = {"image set": image_set, "teacher": teacher, "selection": selection, "scores": scores}


@pytest.mark.parametrize("name", MADE)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    KINDS[name].publish(tmp_path)
    found, made = KINDS[name].load(tmp_path / "out"), MADE[name]()
    if name == "scores":
        assert found == made
    else:
        assert_same(found, made)


# --- damage ---


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_damage_to_any_file_is_reported_by_its_name(kind: Kind, damage: str, tmp_path: Path) -> None:
    kind.publish(tmp_path)
    out = tmp_path / "out"
    files = data_files(out)
    assert files
    for path in files:
        whole = path.read_bytes()
        if damage == "flip":
            middle = len(whole) // 2
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
            sentence = f"{path} is corrupt: SHA-256 "
        elif damage == "cut":
            path.write_bytes(whole[:-1])
            sentence = f"{path} has {len(whole) - 1} bytes, {len(whole)} were recorded; run `dvc checkout` or "
        elif damage == "grow":
            path.write_bytes(whole + b"\0")
            sentence = f"{path} has {len(whole) + 1} bytes, {len(whole)} were recorded; run `dvc checkout` or "
        else:
            path.unlink()
            sentence = f"{path} is missing; run `dvc checkout` or pull the release again"
        assert refusal(kind, out).startswith(sentence)
        path.write_bytes(whole)
    kind.load(out)  # mended


def test_damage_to_the_manifest_is_reported(kind: Kind, tmp_path: Path) -> None:
    kind.publish(tmp_path)
    out = tmp_path / "out"
    manifest = out / MANIFEST
    text = manifest.read_text(encoding="utf-8")
    for broken in (text[: len(text) // 2], "", "[]", "null", "3"):
        manifest.write_text(broken, encoding="utf-8")
        sentence = refusal(kind, out)
        assert sentence.startswith(f"{manifest} is damaged (") and sentence.endswith(
            f"; remove {out} and run `dvc repro`"
        )
    manifest.write_bytes(b"\xff" + text.encode())
    assert refusal(kind, out).startswith(f"{manifest} is damaged (")
    content = json.loads(text)
    for change in ({"meta": {**content["meta"], "x": 1}}, {"files": {}}, {"digest": "0" * 64}):
        manifest.write_text(json.dumps({**content, **change}), encoding="utf-8")
        assert refusal(kind, out) == (
            f"{manifest} is damaged: its digest does not match; remove {out} and run `dvc repro`"
        )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    KINDS["selection"].publish(root)
    return root / "out"


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_changed_byte_of_a_manifest_is_seen_or_harmless(published: Path, data: st.DataObject) -> None:
    """Harmless: the lineage, which is history and not content, and what JSON reads alike."""
    manifest = published / MANIFEST
    whole = manifest.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    manifest.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    try:
        artifact = store.open_artifact(published, "selection")
        original = json.loads(whole)
        assert {key: getattr(artifact, key) for key in ("meta", "files", "digest")} == {
            key: original[key] for key in ("meta", "files", "digest")
        }
    except DataError as error:
        assert str(published) in str(error)
    finally:
        manifest.write_bytes(whole)


def test_a_folder_without_a_manifest_a_wrong_kind_and_a_wrong_schema(kind: Kind, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert refusal(kind, out) == (
        f"{out} contains no {kind.kind} (no artifact.json); run `dvc repro` or `dvc pull` to make it"
    )
    kind.publish(tmp_path)
    with pytest.raises(DataError) as error:
        store.open_artifact(out, "release")
    assert str(error.value) == f"{out} contains {kind.kind!r}, expected 'release'; give the folder of the right stage"
    content = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    (out / MANIFEST).write_text(json.dumps({**content, "schema": 999}), encoding="utf-8")
    assert refusal(kind, out) == (
        f"{out} has schema 999, but this version of dcpipe reads {store.SCHEMA}; run `dvc repro` to rebuild it"
    )


# --- equal content, equal bytes ---


def test_equal_content_has_equal_bytes_wherever_it_is_made(kind: Kind, tmp_path: Path) -> None:
    first, second = kind.publish(tmp_path / "a"), kind.publish(tmp_path / "b" / "deeper", "other")
    assert first.digest == second.digest == store.open_artifact(first.path, kind.kind).digest
    names = [path.relative_to(first.path) for path in [*data_files(first.path), first.path / MANIFEST]]
    assert len(names) == len(data_files(second.path)) + 1
    for name in names:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name


def test_the_digest_names_content_not_history(tmp_path: Path) -> None:
    digests = []
    for number, (meta, lineage) in enumerate([({"a": 1}, {}), ({"a": 1}, {"code": "x"}), ({"a": 2}, {})]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "data").write_bytes(b"x")
        digests.append(store.publish(folder, tmp_path / f"out{number}", "x", meta, lineage).digest)
    assert digests[0] == digests[1] != digests[2]
    # Pinned: releases carry these digests.
    assert digests[0] == "a3d152560f477e4cad8c17025acdc422a84c255b60ed80365315e7f7dd4eef8c"
    assert store.digest_of({"b": [1, 2.5], "a": None}) == store.digest_of({"a": None, "b": [1, 2.5]})


def test_publishing_replaces_what_was_there_and_takes_no_unfinished_file(tmp_path: Path) -> None:
    KINDS["scores"].publish(tmp_path)
    shutil.rmtree(tmp_path / "out-bench", ignore_errors=True)
    (tmp_path / "out" / "stale").write_text("old", encoding="utf-8")
    folder = tmp_path / "bench"
    folder.mkdir()
    (folder / "torn.partial").write_text("half", encoding="utf-8")
    artifact = store.publish(folder, tmp_path / "out", "scores", store.save_scores(folder, scores()[:1]), {})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "scores.json"]
    assert list(artifact.files) == ["scores.json"] and not folder.exists()
    assert [asdict(score) for score in store.load_scores(tmp_path / "out")] == [asdict(scores()[0])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert store.folder_bytes(tmp_path / "out") == sum(p.stat().st_size for p in (tmp_path / "out").iterdir())


def test_a_flipped_byte_of_a_pack_names_the_array_wherever_it_is(tmp_path: Path) -> None:
    kind = KINDS["pack"]
    out = tmp_path / "out"
    kind.publish(tmp_path)
    path = out / "labels.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        inside = [name for name, (start, stop) in spans.items() if start <= place - 8 - length < stop]
        where = f"damaged in array {inside[0]!r}; run" if inside else "damaged in its header; run"
        assert where in refusal(kind, out), place
