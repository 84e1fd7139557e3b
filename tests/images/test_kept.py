"""A split that is read several times: decoded once, wherever its pixels are kept, unless there is no room."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_tables import write_table

from dcpipe import images
from dcpipe.images import kept, reading
from dcpipe.types import ImageTable

N = 11


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    pixels = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
    table = write_table(tmp_path, pixels, np.arange(N) % 3, np.arange(N) + 50, 4, ("a", "b", "c"))
    return replace(table, origin=(str(tmp_path), "digest", "test"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of images of every part that is decoded."""
    counts: list[int] = []
    real = reading.decode_into
    monkeypatch.setattr(reading, "decode_into", lambda out, *rest: counts.append(len(out)) or real(out, *rest))
    yield counts
    kept._kept.forget()


def read(table: ImageTable, folder: Path) -> tuple[np.ndarray, list[int], list[int]]:
    parts = [(np.array(pixels), labels) for pixels, labels in kept.read_kept(table, folder)]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return pixels, labels.tolist(), [len(pixels) for pixels, _ in parts]


@pytest.mark.parametrize("room", [0, 10**6])
def test_a_split_is_decoded_once(
    table: ImageTable, decoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(kept, "MEMORY_BYTES", room)
    files = sorted(tmp_path.iterdir())
    wanted = images.read_all(table), table.labels.tolist(), [4, 4, 3]
    decoded.clear()
    for again in (table, table, replace(table)):  # also where somebody else has opened the same split
        found = read(again, tmp_path)
        np.testing.assert_array_equal(found[0], wanted[0])
        assert found[1:] == wanted[1:] and decoded == [4, 4, 3]
    assert sorted(tmp_path.iterdir()) == files  # the file has no name


def test_a_reader_that_stops_early_leaves_the_rest_to_the_next(
    table: ImageTable, decoded: list[int], tmp_path: Path
) -> None:
    next(kept.read_kept(table, tmp_path))
    np.testing.assert_array_equal(read(table, tmp_path)[0], images.read_all(table))


@pytest.mark.parametrize("change", ["origin", "no origin", "full disk"])
def test_other_splits_and_full_disks_are_decoded(
    table: ImageTable, decoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    read(table, tmp_path)
    decoded.clear()
    if change == "full disk":
        kept._kept.forget()
        monkeypatch.setattr(kept, "MEMORY_BYTES", 0)
        usage = namedtuple("usage", "free")(free=2 * table.decoded_bytes - 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    others = {"origin": (str(tmp_path), "other", "test"), "no origin": None}
    other = replace(table, origin=others.get(change, table.origin))
    for _ in range(2):
        np.testing.assert_array_equal(read(other, tmp_path)[0], images.read_all(other)[:N])
    assert decoded.count(3) >= 3  # twice by `read` where nothing is kept, and by `read_all` here
