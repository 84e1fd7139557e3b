"""Listings of sources: what changes them, and what does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dcpipe.images import SOURCES, list_source
from dcpipe.images.listing import list_files
from dcpipe.types import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / "set" / split / name).mkdir(parents=True)
            (tmp_path / "set" / split / name / "0.png").write_bytes(b"12345")
    return tmp_path / "set"


def test_files_are_counted_and_every_change_of_one_changes_the_digest(folder: Path) -> None:
    options = {"path": str(folder)}
    before = list_source(SOURCES["imagefolder"], options)
    assert before is not None and (before.files, before.bytes) == (4, 20)
    assert list_source(SOURCES["imagefolder"], options) == before
    image = folder / "train" / "a" / "0.png"
    seen = {before.sha256}

    def changed() -> bool:
        listing = list_source(SOURCES["imagefolder"], options)
        assert listing is not None
        new = listing.sha256 not in seen
        seen.add(listing.sha256)
        return new

    os.utime(image, ns=(1, 1))  # overwritten by bytes of the same length
    assert changed()
    image.write_bytes(b"123456")
    os.utime(image, ns=(1, 1))
    assert changed()
    image.rename(image.with_name("1.png"))
    assert changed()
    image.with_name("1.png").rename(folder / "train" / "b" / "1.png")
    assert changed()
    (folder / "val" / "a" / "2.png").write_bytes(b"")
    assert changed()


def test_hidden_files_other_folders_and_the_place_of_the_folder_do_not_matter(folder: Path) -> None:
    options = {"path": str(folder)}
    before = list_source(SOURCES["imagefolder"], options)
    (folder / "train" / "a" / "._0.png").write_bytes(b"x")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "train" / ".ipynb_checkpoints" / "0.png").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"x")
    assert list_source(SOURCES["imagefolder"], options) == before
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert list_source(SOURCES["imagefolder"], {"path": str(moved)}) == before


def test_a_class_list_and_the_shards_of_both_splits_belong_to_it(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "classes.json"
    names.write_text('["a", "b"]', encoding="utf-8")
    with_names = list_source(SOURCES["imagefolder"], {"path": str(folder), "classes": str(names)})
    assert with_names is not None and with_names.files == 5
    shards = tmp_path / "shards"
    (shards / "data").mkdir(parents=True)
    for name in ("train-0.parquet", "validation-0.parquet", "other-0.parquet"):
        (shards / "data" / name).write_bytes(b"12")
    listed = list_source(SOURCES["parquet"], {"path": str(shards)})
    assert listed is not None and (listed.files, listed.bytes) == (2, 4)


def test_sources_without_files_and_downloads_have_none(tmp_path: Path) -> None:
    for listed in (
        list_source(SOURCES["digits"], {"seed": 1}),
        list_source(SOURCES["torchvision"], {"name": "CIFAR10", "root": str(tmp_path / "absent"), "download": True}),
    ):
        assert listed is not None and listed.files == 0
    assert list_source(lambda **options: {}, {}) is None


def test_links_in_circles_end_and_names_of_any_bytes_are_listed(folder: Path) -> None:
    (folder / "train" / "a" / "up").symlink_to(folder / "train", target_is_directory=True)
    (folder / "train" / "a" / "gone.png").symlink_to(folder / "nowhere.png")
    (Path(os.fsdecode(os.fsencode(folder) + b"/train/a/caf\xe9.png"))).write_bytes(b"1")
    listed = list_files([folder / "train"])
    assert listed.files == 4  # the link to nothing is one, so that its target is noticed when it comes


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^[^(]*absent/train cannot be listed \(No such file or directory\); corr"):
        list_source(SOURCES["imagefolder"], {"path": str(tmp_path / "absent")})
