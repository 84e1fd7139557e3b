"""The database of digests: what it finds again, what it does not, and that a broken one is no error."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from dcpipe.store.digests import SharedDigests

DIGEST = "a" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.fixture
def shared(tmp_path: Path) -> SharedDigests:
    return SharedDigests(tmp_path / "digests.sqlite")


def test_a_digest_is_found_by_other_processes_and_under_other_names(file: Path, shared: SharedDigests) -> None:
    assert shared.find(file.stat()) is None
    shared.add(file.stat(), DIGEST)
    again = SharedDigests(shared.path)
    assert again.find(file.stat()) == DIGEST
    renamed = file.rename(file.with_name("renamed"))
    linked = file.with_name("linked")
    linked.hardlink_to(renamed)  # as DVC does, which changes the time of the status
    linked.chmod(0o444)
    assert again.find(renamed.stat()) == again.find(linked.stat()) == DIGEST


def test_other_content_is_not_found(file: Path, shared: SharedDigests) -> None:
    shared.add(file.stat(), DIGEST)
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, ns=(10**18, 10**18))
    assert shared.find(copy.stat()) is None  # the same bytes, but who knows
    os.utime(file, ns=(10**18, 10**18 + 1))
    assert shared.find(file.stat()) is None
    file.write_bytes(b"more bytes than before")
    os.utime(file, ns=(10**18, 10**18))
    assert shared.find(file.stat()) is None


def test_the_last_file_of_an_inode_is_remembered(file: Path, shared: SharedDigests) -> None:
    before = file.stat()
    shared.add(before, DIGEST)
    file.write_bytes(b"other")
    shared.add(file.stat(), "b" * 64)
    assert shared.find(file.stat()) == "b" * 64
    assert shared.find(before) is None


def test_inodes_of_64_bits_are_stored(shared: SharedDigests) -> None:
    status = SimpleNamespace(st_dev=2**64 - 1, st_ino=2**64 - 1, st_size=2**63, st_mtime_ns=-1)
    shared.add(cast("os.stat_result", status), DIGEST)
    assert shared.find(cast("os.stat_result", status)) == DIGEST


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_broken_database_is_no_error(file: Path, shared: SharedDigests, content: bytes) -> None:
    shared.path.write_bytes(content)
    assert shared.find(file.stat()) is None
    shared.add(file.stat(), DIGEST)
    missing = SharedDigests(file.parent / "none" / "digests.sqlite")
    missing.add(file.stat(), DIGEST)
    assert missing.find(file.stat()) is None
