"""Artifact folders of every kind: what is written is read again, and a changed byte is an error that names the file."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS, LINEAGE, Kind, assert_same, image_set, scores, selection, teacher

from dcpipe import store
from dcpipe.store.manifest import content_digest, written
from dcpipe.store.teacher import WEIGHTS, read_teacher
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
    if name == "teacher":
        assert found.origin == (str(tmp_path / "out"), store.open_artifact(tmp_path / "out", "teacher").digest)
        found = replace(found, origin=None)
    if name == "scores":
        assert found == made
    else:
        assert_same(found, made)


def test_a_teacher_may_be_read_without_its_weights(tmp_path: Path) -> None:
    """What a release says of the first teacher takes no torch."""
    (tmp_path / "staging").mkdir()
    meta = store.save_teacher(tmp_path / "staging", teacher())
    store.publish(tmp_path / "staging", tmp_path / "out", "teacher", meta, LINEAGE)
    artifact = store.open_artifact(tmp_path / "out", "teacher")
    whole, without = store.teacher_of(artifact), store.teacher_of(artifact, weights=False)
    assert without.weights == {} and len(whole.weights) > 0
    for name in ("network", "classes", "mean", "std", "size", "accuracy", "input_size", "origin"):
        assert getattr(without, name) == getattr(whole, name)


def test_a_teacher_that_resizes_images_is_read_again_and_others_are_written_as_before(tmp_path: Path) -> None:
    for folder, made in (("as-is", teacher()), ("resized", replace(teacher(), input_size=16))):
        staging = tmp_path / folder
        staging.mkdir()
        meta = store.save_teacher(staging, made)
        assert set(meta) - {"input_size"} == {"network", "classes", "mean", "std", "size", "accuracy"}
        assert meta.get("input_size") == made.input_size and ("input_size" in meta) == (folder == "resized")
        found = read_teacher(staging / WEIGHTS, meta)
        assert (found.input_size, found.size) == (made.input_size, 8)
    with pytest.raises(DataError, match="input_size"):
        read_teacher(staging / WEIGHTS, {**meta, "input_size": -3})


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
            sentence = f"{path} has {len(whole) - 1} bytes, {len(whole)} were recorded; run `dvc checkout --force` or "
        elif damage == "grow":
            path.write_bytes(whole + b"\0")
            sentence = f"{path} has {len(whole) + 1} bytes, {len(whole)} were recorded; run `dvc checkout --force` or "
        else:
            path.unlink()
            sentence = f"{path} is missing; run `dvc checkout --force` or pull the release again"
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
def test_any_changed_byte_of_a_manifest_is_seen(published: Path, data: st.DataObject) -> None:
    """Its history and its blanks too."""
    manifest = published / MANIFEST
    whole = manifest.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    manifest.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    try:
        with pytest.raises(DataError) as error:
            store.open_artifact(published, "selection")
        assert str(published) in str(error.value)
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


# --- provenance ---


def rewritten(out: Path, **changes: Any) -> None:
    """Change keys of a manifest, None removing one, as dcpipe writes it; its digests stay."""
    content = {**json.loads((out / MANIFEST).read_text(encoding="utf-8")), **changes}
    (out / MANIFEST).write_bytes(written({key: value for key, value in content.items() if value is not None}))


def test_a_changed_history_is_seen_and_the_digest_of_the_content_stays(tmp_path: Path) -> None:
    artifact = KINDS["pack"].publish(tmp_path)
    content = json.loads((artifact.path / MANIFEST).read_text(encoding="utf-8"))
    assert content["provenance"] == store.digest_of({"arrays": content["arrays"], "lineage": LINEAGE})
    assert content["digest"] == artifact.digest and store.open_artifact(artifact.path, "compression").covered
    arrays = {"labels.safetensors": {**content["arrays"]["labels.safetensors"], "u": "0" * 64}}
    for change in ({"lineage": {**LINEAGE, "code": "1" * 8}}, {"arrays": arrays}, {"provenance": "0" * 64}):
        rewritten(artifact.path, **{**{key: content[key] for key in ("lineage", "arrays", "provenance")}, **change})
        assert refusal(KINDS["pack"], artifact.path) == (
            f"{artifact.path / MANIFEST} is damaged: its provenance digest does not match; remove {artifact.path} and "
            "run `dvc repro`"
        )


def test_artifacts_of_older_versions_stay_readable(kind: Kind, tmp_path: Path) -> None:
    out = kind.publish(tmp_path).path
    rewritten(out, provenance=None)
    artifact = store.open_artifact(out, kind.kind)
    assert not artifact.covered and kind.load(out) is not None
    rewritten(out, lineage={"stage": "another"})
    assert store.open_artifact(out, kind.kind).lineage == {"stage": "another"}


def test_keys_of_the_history_are_text_as_they_will_be_read(tmp_path: Path) -> None:
    """JSON has no other keys, and sorts 10 before 9 then."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store.publish(folder, tmp_path / "out", "x", {}, {"params": {9: "a", 10: "b"}})
    assert store.open_artifact(tmp_path / "out", "x").lineage == {"params": {"9": "a", "10": "b"}}


# --- what is not listed, and what leads elsewhere ---


def test_a_file_that_is_read_must_be_listed(kind: Kind, tmp_path: Path) -> None:
    """A manifest with a right digest that vouches for nothing."""
    out = kind.publish(tmp_path).path
    content = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    digest = content_digest(store.SCHEMA, kind.kind, content["meta"], {})
    rewritten(out, files={}, digest=digest)
    store.open_artifact(out, kind.kind)
    sentence = refusal(kind, out)
    assert sentence.startswith(f"{out / MANIFEST} does not list ")
    assert sentence.endswith(", so nothing vouches for its bytes; get the artifact again")


def test_links_are_refused(kind: Kind, tmp_path: Path) -> None:
    out = kind.publish(tmp_path).path
    for path in data_files(out)[:3]:
        elsewhere = tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        assert refusal(kind, out).startswith(
            f"{path} is a symbolic link that leads out of DVC's cache; put the file itself"
        )
        path.unlink()
        elsewhere.rename(path)
    kind.load(out)
    manifest = out / MANIFEST
    manifest.rename(tmp_path / "manifest")
    manifest.symlink_to(tmp_path / "manifest")
    assert refusal(kind, out).startswith(f"{manifest} is a symbolic link")


def test_links_into_the_cache_of_dvc_are_read(kind: Kind, tmp_path: Path) -> None:
    """As DVC leaves them with `cache.type symlink`."""
    out = kind.publish(tmp_path).path
    for number, path in enumerate([*data_files(out), out / MANIFEST]):
        cached = tmp_path / "cache" / "files" / "md5" / "ab" / f"{number:030x}"
        cached.parent.mkdir(parents=True, exist_ok=True)
        path.rename(cached)
        path.symlink_to(cached)
    kind.load(out)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_have_the_modes_that_others_files_have(umask: int, mode: int, kind: Kind, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        out = kind.publish(tmp_path).path
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in out.rglob("*") if path.is_file()}
    assert set(modes.values()) == {oct(mode)}, modes


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
