"""A file is hashed once in a process as long as it does not change, and every change is seen."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from kinds import Kind

from dcpipe import store
from dcpipe.store import artifact, hashing
from dcpipe.types import DataError

DAY = 86_400 * 10**9


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files that were read to be hashed, in order."""
    sizes: list[int] = []
    read = hashing.sha256

    def counted(path: Path) -> str:
        sizes.append(path.stat().st_size)
        return read(path)

    monkeypatch.setattr(hashing, "sha256", counted)
    return sizes


def settle(path: Path, age: int = DAY) -> None:
    """Give a file, or all files of a folder, a time of writing that is long ago."""
    for file in [path] if path.is_file() else path.rglob("*"):
        when = time.time_ns() - age
        os.utime(file, ns=(when, when))


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    assert hashing.sha256(path) == hashing.sha256_once(path) == hashlib.sha256(b"some bytes").hexdigest()


def test_all_that_a_stage_opens_and_loads_is_hashed_once(kind: Kind, tmp_path: Path, hashed: list[int]) -> None:
    kind.publish(tmp_path)
    out = tmp_path / "out"
    settle(out)
    hashed.clear()
    for _ in range(2):
        store.open_artifact(out, kind.kind)
        kind.load(out)
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != "artifact.json"]
    assert sorted(hashed) == sorted(sizes)


def test_strangers_artifacts_and_verification_read_every_byte(kind: Kind, tmp_path: Path, hashed: list[int]) -> None:
    kind.publish(tmp_path)
    out = tmp_path / "out"
    settle(out)
    store.open_artifact(out, kind.kind)
    for read in (lambda: store.open_artifact(out, kind.kind, again=True), lambda: artifact.verify(out)):
        hashed.clear()
        read()
        assert sum(hashed) == store.folder_bytes(out) - (out / "artifact.json").stat().st_size


def in_place(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"X")


def in_place_with_its_old_time(path: Path) -> None:
    before = path.stat()
    in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_another_file(path: Path) -> None:
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [in_place, in_place_with_its_old_time, by_another_file])
def test_a_change_between_two_opens_is_seen(change: Callable[[Path], None], kind: Kind, tmp_path: Path) -> None:
    kind.publish(tmp_path)
    out = tmp_path / "out"
    settle(out)
    opened = store.open_artifact(out, kind.kind)
    change(opened.file(next(iter(opened.files))))
    with pytest.raises(DataError, match="is corrupt: SHA-256"):
        store.open_artifact(out, kind.kind)


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, hashed: list[int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    for age, times in ((0, 2), (-DAY, 2), (3 * 10**9, 1)):  # now, in the future, three seconds ago
        settle(path, age)
        hashed.clear()
        hashing.sha256_once(path)
        hashing.sha256_once(path)
        assert hashed == [10] * times, age


def test_processes_that_share_digests_read_a_file_once(
    kind: Kind, tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.publish(tmp_path)
    out = tmp_path / "out"
    settle(out)
    for expected in (True, False, False):
        monkeypatch.setattr(hashing, "_known", {})  # another process
        hashed.clear()
        with hashing.sharing(tmp_path / "digests.sqlite"):
            opened = store.open_artifact(out, kind.kind)
        assert bool(hashed) == expected
    in_place(opened.file(next(iter(opened.files))))
    for context in (hashing.sharing(tmp_path / "digests.sqlite"), nullcontext()):
        monkeypatch.setattr(hashing, "_known", {})
        with context, pytest.raises(DataError, match="is corrupt: SHA-256"):
            store.open_artifact(out, kind.kind)


def test_what_a_stage_publishes_is_not_hashed_by_the_next(
    kind: Kind, tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_SETTLED", -1)  # as if every file had been written long ago
    with hashing.sharing(tmp_path / "digests.sqlite"):
        kind.publish(tmp_path)
        assert hashed
        hashed.clear()
        monkeypatch.setattr(hashing, "_known", {})
        store.open_artifact(tmp_path / "out", kind.kind)
    assert not hashed
    monkeypatch.setattr(hashing, "_known", {})
    store.open_artifact(tmp_path / "out", kind.kind)
    assert hashed, "outside, a process goes on with what it knows itself"
