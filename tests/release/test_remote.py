"""Releases in an object store: only what is used is downloaded, all of it verified, and interruptions cost little."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import releases
import torch
from object_store import Bucket

import dcpipe
from dcpipe.release import remote
from dcpipe.store import urls
from dcpipe.types import DataError


@pytest.fixture(scope="module")
def placed(bucket: Bucket, made: Path) -> str:
    """The URL of a release that no test changes."""
    return bucket.put_folder(made, "placed/fish")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def asked(bucket: Bucket, prefix: str) -> list[str]:
    """The objects below a prefix whose content was asked for since the requests were cleared, in order."""
    keys = [key.removeprefix(f"{prefix}/") for method, key, _ in bucket.requests if method == "GET"]
    return [key for key in keys if key]


def test_a_release_is_the_same_from_a_bucket(placed: str, made: Path, cache: Path) -> None:
    near, far = dcpipe.load(made), dcpipe.load(placed)
    assert far.digest == near.digest and far.manifest == near.manifest and far.scores == near.scores
    np.testing.assert_array_equal(far.images.images, near.images.images)
    assert near.pack is not None and far.pack is not None and near.teacher is not None and far.teacher is not None
    np.testing.assert_array_equal(far.pack.arrays["logits"], near.pack.arrays["logits"])
    assert all(torch.equal(far.teacher.weights[key], tensor) for key, tensor in near.teacher.weights.items())
    assert far.path.is_relative_to(cache) and far.policy == near.policy
    for kind in ("pack", "teacher", "hard"):
        ours, theirs = dcpipe.load(placed, ipc=2).dataset(labels=kind), dcpipe.load(made, ipc=2).dataset(labels=kind)
        items = np.arange(len(ours))
        for mine, other in zip(ours.batch(items), theirs.batch(items), strict=True):
            assert torch.equal(mine, other)


def test_only_what_is_used_is_downloaded(bucket: Bucket, placed: str) -> None:
    bucket.requests.clear()
    found = dcpipe.load(placed)
    first = ["artifact.json", "images.parquet", "scores.json"]
    assert asked(bucket, "placed/fish") == first
    found.dataset(labels="hard")
    assert asked(bucket, "placed/fish") == first
    found.dataset()
    assert asked(bucket, "placed/fish") == [*first, "labels.safetensors"]
    dcpipe.load(placed).dataset()
    assert asked(bucket, "placed/fish") == [*first, "labels.safetensors", "artifact.json"], "the rest is here"
    found.dataset(labels="teacher")
    assert asked(bucket, "placed/fish")[-1] == "teacher.safetensors"


def test_http_and_files_in_the_cache_that_were_changed(bucket: Bucket, made: Path) -> None:
    for path in made.iterdir():
        bucket.put(f"public/{path.name}", path.read_bytes(), public=True)
    url = bucket.http(f"{bucket.url}/public")
    path = dcpipe.load(url).path / "images.parquet"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    bucket.requests.clear()
    assert len(dcpipe.load(url).images) == 12 and path.read_bytes() == content
    assert asked(bucket, "public") == ["artifact.json", "images.parquet"]


@pytest.mark.parametrize(
    "name", ["artifact.json", "images.parquet", "labels.safetensors", "teacher.safetensors", "scores.json"]
)
def test_one_changed_bit_is_found(bucket: Bucket, made: Path, name: str) -> None:
    url = bucket.put_folder(made, f"changed-{name}")
    content = bytearray((made / name).read_bytes())
    content[len(content) // 2] ^= 1
    bucket.put(f"changed-{name}/{name}", bytes(content))

    def use() -> object:
        found = dcpipe.load(url)
        return found.pack, found.teacher

    with pytest.raises(DataError, match=rf"s3://bucket/changed-{name}/{name} (has other bytes than|is damaged)"):
        use()
    bucket.put(f"changed-{name}/{name}", (made / name).read_bytes())
    use()


def test_what_is_wrong_at_a_url_is_said(bucket: Bucket, made: Path) -> None:
    url = bucket.put_folder(made, "short")
    bucket.put("short/images.parquet", (made / "images.parquet").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"short/images\.parquet has only [\d,]+ bytes where [\d,]+ were expected"):
        dcpipe.load(url)
    with pytest.raises(DataError, match=r"^s3://bucket/none is not the folder of a release: .*artifact.json does not"):
        dcpipe.load(f"{bucket.url}/none")
    with pytest.raises(DataError, match="is a URL; leave revision and repo out"):
        dcpipe.load(url, revision="1.0.0")
    with pytest.raises(DataError, match="is no URL that can be read; write s3://"):
        dcpipe.load("ftp://host/release")
    content = json.loads((made / "artifact.json").read_text())
    bucket.put("another/artifact.json", json.dumps(content | {"schema": 99}))
    with pytest.raises(DataError, match=r"has schema 99, but this version of dcpipe reads 1; update dcpipe$"):
        dcpipe.load(f"{bucket.url}/another")


def manifest_with(made: Path, files: dict[str, Any]) -> bytes:
    """The manifest of a release that lists other files, with digests that fit."""
    from dcpipe.store.manifest import content_digest, provenance_digest, written

    content = json.loads((made / "artifact.json").read_text())
    content |= {"files": content["files"] | files, "arrays": {}}
    content["digest"] = content_digest(content["schema"], content["noun"], content["meta"], content["files"])
    return written(content | {"provenance": provenance_digest(content["lineage"], {})})


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/../../../escaped", "C:escaped", "..\\escaped"])
def test_no_file_leaves_the_folder(bucket: Bucket, made: Path, cache: Path, name: str) -> None:
    url = bucket.put_folder(made, "leaving")
    record = {"bytes": 7, "sha256": hashlib.sha256(b"escaped").hexdigest()}
    bucket.put("leaving/artifact.json", manifest_with(made, {name: record}))
    with pytest.raises(DataError, match=r"leaving/artifact.json is damaged .*a name of a file"):
        remote.fetch(url)
    assert not cache.exists()


def test_no_file_is_inside_another(bucket: Bucket, made: Path, cache: Path) -> None:
    url = bucket.put_folder(made, "inside")
    bucket.put("inside/artifact.json", manifest_with(made, {"scores.json/a/b": {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(
        DataError, match=r"inside/artifact.json lists 'scores.json/a/b', a file in a file; ask its owner"
    ):
        remote.fetch(url)
    assert not cache.exists()


def test_a_manifest_cannot_fill_the_disk(bucket: Bucket, made: Path) -> None:
    url = bucket.put_folder(made, "huge")
    bucket.put("huge/artifact.json", manifest_with(made, {"images.parquet": {"bytes": 2**62, "sha256": "0" * 64}}))
    with pytest.raises(
        DataError, match=r"huge/images\.parquet needs 4\.6 EB but .* free; free some space or set DCPIPE_C"
    ):
        dcpipe.load(url)


def test_an_interrupted_download_goes_on(
    bucket: Bucket, placed: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART", 50)
    monkeypatch.setattr(remote, "AT_ONCE", 2)
    size, reads = (made / "images.parquet").stat().st_size, 0
    real = urls.read_ranges

    def dying(url: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        nonlocal reads
        reads += 1
        if reads == 4:
            raise KeyboardInterrupt
        return real(url, ranges)

    monkeypatch.setattr(urls, "read_ranges", dying)
    found = remote.open_release(placed)
    with pytest.raises(KeyboardInterrupt):
        found.file("images.parquet")
    assert not (found.path / "images.parquet").exists()
    bucket.requests.clear()
    assert remote.open_release(placed).file("images.parquet").read_bytes() == (made / "images.parquet").read_bytes()
    spans = sorted(int(span.split("=")[1].split("-")[0]) for span in bucket.reads("placed/fish/images.parquet"))
    assert spans == list(range(300, size, 50)), "three times two parts of 50 bytes were there"


def test_two_processes_download_a_file_once(bucket: Bucket, placed: str, made: Path) -> None:
    found = remote.open_release(placed)
    bucket.requests.clear()
    with ThreadPoolExecutor(4) as pool:  # a lock of a file holds between threads as between processes
        paths = list(pool.map(lambda _: found.file("labels.safetensors"), range(4)))
    assert {path.read_bytes() for path in paths} == {(made / "labels.safetensors").read_bytes()}
    assert len(bucket.reads("placed/fish/labels.safetensors")) == 1


def test_a_release_that_is_replaced_is_another_one(bucket: Bucket, made: Path, tmp_path: Path) -> None:
    url = bucket.put_folder(made, "moving")
    before = dcpipe.load(url)
    releases.build(tmp_path / "other", releases.parts(seed=1))
    bucket.put_folder(tmp_path / "other", "moving")
    after = dcpipe.load(url)
    assert after.digest != before.digest and after.path != before.path
    with pytest.raises(DataError, match="has other bytes than its release says"):
        _ = before.pack


def test_pull_makes_the_folder(bucket: Bucket, placed: str, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert remote.pull(placed, out).digest == dcpipe.load(made).digest
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(DataError, match="mine exists; give a folder that does not, or remove it"):
        remote.pull(placed, out)
    shutil.rmtree(out)
    bucket.put("broken/artifact.json", (made / "artifact.json").read_bytes())
    with pytest.raises(DataError, match="does not exist"):
        remote.pull(f"{bucket.url}/broken", out)
    assert not out.exists()
