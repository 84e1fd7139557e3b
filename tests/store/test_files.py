"""Files and folders appear whole or not at all, and on disk before they have their name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dcpipe import store
from dcpipe.store.files import new_folder, replacing


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "notes.json"
    if old is not None:
        path.write_text(old, encoding="utf-8")
    with replacing(path) as partial:
        partial.write_text("new", encoding="utf-8")
        assert partial.suffix == ".partial" and partial.parent == tmp_path
        assert path.exists() == (old is not None) and (old is None or path.read_text(encoding="utf-8") == old)
    assert path.read_text(encoding="utf-8") == "new" and left(tmp_path) == ["notes.json"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_in_mid_write_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "notes.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(error)), replacing(path) as partial:
        partial.write_text("ne", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old" and left(tmp_path) == ["notes.json"]


KILLED = """
import os, sys
from pathlib import Path
from dcpipe.store.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("ne")
    os.kill(os.getpid(), 9)
"""


def test_a_kill_in_mid_write_leaves_the_old_file_and_a_leftover_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("old", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -9 and path.read_text(encoding="utf-8") == "old"
    [leftover] = tmp_path.glob("*.partial")
    assert left(tmp_path) == sorted([leftover.name, "notes.json"])


def test_two_writers_of_one_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    with replacing(path) as first:
        first.write_text("first", encoding="utf-8")
        with replacing(path) as second:
            assert second != first
            second.write_text("second", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "second"
    assert path.read_text(encoding="utf-8") == "first" and left(tmp_path) == ["shard"]


def test_bytes_are_on_disk_before_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that a power cut cannot break: the file's bytes, its name, the folder's list of names."""
    path, steps = tmp_path / "checkpoint", []
    fsync, rename = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}"
        steps.append(f"{kind}, named: {path.exists()}")
        fsync(handle)

    def note_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    with replacing(path) as partial:
        partial.write_bytes(b"12345")
    assert steps == ["file of 5, named: False", "rename to checkpoint", "folder, named: True"]


def test_where_a_folder_cannot_be_synced_the_file_is_there_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, refused = os.open, []

    def open_files_only(path: str | Path, *how: int) -> int:
        if Path(path).is_dir():
            refused.append(path)
            raise PermissionError(f"{path} is a folder")  # as Windows does
        return opened(path, *how)

    monkeypatch.setattr(os, "open", open_files_only)
    with replacing(tmp_path / "a") as partial:
        partial.write_bytes(b"1")
    assert (tmp_path / "a").read_bytes() == b"1" and refused == [tmp_path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_others_may_read_what_the_umask_lets_them_read(tmp_path: Path) -> None:
    """safetensors' own writer makes files that only their owner can read, whatever the umask is."""
    before = os.umask(0o027)
    try:
        save_file({"a": np.zeros(2)}, tmp_path / "alone")
        with replacing(tmp_path / "shared") as partial:
            save_file({"a": np.zeros(2)}, partial)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o640


def test_a_folder_appears_when_it_is_full(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "export"
    stale = tmp_path / "deep" / "export.partial"
    (stale / "old").mkdir(parents=True)
    with new_folder(out) as partial:
        assert list(partial.iterdir()) == [] and not out.exists()
        (partial / "a").write_text("1", encoding="utf-8")
    assert left(out) == ["a"] and left(out.parent) == ["export"]
    with pytest.raises(KeyError), new_folder(tmp_path / "other") as partial:
        (partial / "a").write_text("1", encoding="utf-8")
        raise KeyError
    assert left(tmp_path) == ["deep"]


def test_an_artifact_is_on_disk_before_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "staging"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"1" * 11)
    (folder / "b.bin").write_bytes(b"1" * 22)
    synced, fsync = [], os.fsync

    def note(handle: int) -> None:
        synced.append(os.fstat(handle).st_size if stat.S_ISREG(os.fstat(handle).st_mode) else -1)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    store.publish(folder, tmp_path / "out", "x", {}, {})
    assert synced[:2] == [11, 22] and synced[2] == (tmp_path / "out" / "artifact.json").stat().st_size
    assert synced[3:] == [-1, -1], "the names of the manifest and of the artifact itself"
