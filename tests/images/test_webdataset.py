"""The source `webdataset`: splits in shards, labels and class names, and one pass over a shard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from image_sources import CLASSES, labels_of, pixels_of, write_set
from tar_shards import write_shard

from dcpipe import images, store
from dcpipe.images import webdataset
from dcpipe.store.encoding import encode_png
from dcpipe.types import DataError

pytestmark = pytest.mark.usefixtures("scratch")


def tars(path: Path, **options: Any) -> dict[str, images.Source]:
    return images.SOURCES["webdataset"](path=str(path), **options)


def picture(value: int) -> bytes:
    return encode_png(np.full((2, 2, 3), value, np.uint8))


def write(folder: Path, shards: dict[str, list[tuple[int, str]]], suffix: str = "cls") -> Path:
    """Shards of flat images, given as (colour, label) each."""
    for name, samples in shards.items():
        members = [(f"{colour:03d}.png", picture(colour)) for colour, _ in samples]
        members += [(f"{colour:03d}.{suffix}", label.encode()) for colour, label in samples]
        write_shard(folder / name, members)
    return folder


def colours(split: images.Source) -> list[int]:
    read = split.read(np.arange(len(split.labels)))
    return [int(images.decode(data, 2, name)[0, 0, 0]) for data, name in read]


PETS = {"train-0.tar": [(1, "0"), (2, "1")], "train-1.tar": [(3, "1"), (4, "0")], "test-0.tar": [(5, "1"), (6, "0")]}


def test_any_rows_are_read_across_shards(tmp_path: Path) -> None:
    options = write_set(tmp_path, "webdataset")
    splits = tars(tmp_path, **options)
    for name, split in splits.items():
        assert split.classes == CLASSES and split.labels.tolist() == labels_of(name).tolist()
        for rows in ([0], [3, 18, 19, 20, 39], list(range(len(split.labels))), []):
            rows = [row for row in rows if row < len(split.labels)]
            found = [images.decode(data, 6, at) for data, at in split.read(np.array(rows, dtype=np.int64))]
            np.testing.assert_array_equal(np.array(found).reshape(-1, 6, 6, 3), pixels_of(name)[rows])
    assert [name for _, name in splits["train"].read(np.array([2, 30]))] == ["train-0.tar:02.png", "train-1.tar:30.png"]
    with pytest.raises(DataError, match=r"rows must ascend strictly within 0\.\.39"):
        splits["train"].read(np.array([3, 2]))


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("train-000000.tar", "train-000001.tar", "test-000000.tar"), {}),
        (("data/train-0.tar", "data/train-1.tar", "data/val-0.tar"), {}),
        (("train/0.tar", "train/1.tar", "validation/x.tar"), {}),
        (("a-train-0.tar", "a-train-1.tar", "a-val-0.tar"), {"train": "a-train", "test": "a-val"}),
        (("n_8.tar", "n_9.tar", "t_10.tar"), {"train": "n_{8..9}.tar", "test": "t_10.tar"}),
    ],
)
def test_shards_are_found_by_the_names_that_people_give_them(
    names: tuple[str, ...], options: dict[str, str], tmp_path: Path
) -> None:
    splits = tars(write(tmp_path, dict(zip(names, PETS.values(), strict=True))), **options)
    assert colours(splits["train"]) == [1, 2, 3, 4] and colours(splits["test"]) == [5, 6]
    assert splits["train"].labels.tolist() == [0, 1, 1, 0]


def test_classes_are_numbered_or_named(tmp_path: Path) -> None:
    write(tmp_path, PETS)
    assert tars(tmp_path)["train"].classes == ("0", "1")
    assert tars(tmp_path, classes=["cat", "dog"])["test"].classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"class 'c' has no train images; add some or take it off the class list"):
        tars(tmp_path, classes=["a", "b", "c"])
    with pytest.raises(DataError, match=r"train: labels span 0\.\.1 but there are 1 classes; check the class list"):
        tars(tmp_path, classes=["a"])
    write(tmp_path, {"train-0.tar": [(1, "cat")], "train-1.tar": [(2, "dog"), (3, "cat")]}, "txt")
    assert tars(tmp_path, classes=["dog", "cat"])["train"].labels.tolist() == [1, 0, 1]
    with pytest.raises(
        DataError, match=r"train-0\.tar: the class of '001\.png' is 'cat', which is not on the class list; "
    ):
        tars(tmp_path)  # the labels of test are numbers, whose order nothing states
    named = tars(tmp_path, test_share=0.5)
    assert named["train"].classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"the class of '002\.png' is 'dog', .* correct images\.options\.classes$"):
        tars(tmp_path, classes=["emu", "cat"])
    write(tmp_path, {"train-0.tar": [(1, "9" * 17)]})
    with pytest.raises(DataError, match=r"has the label 99,999,999,999,999,999; number the classes from 0$"):
        tars(tmp_path)


def test_a_label_is_an_entry_of_json(tmp_path: Path) -> None:
    write(tmp_path, {"train-0.tar": [(1, '{"y": 0}'), (2, '{"y": 1}')], "test-0.tar": [(3, '{"y": "1"}')]}, "json")
    assert tars(tmp_path, label_key="y", classes=["0", "1"])["test"].labels.tolist() == [1]
    with pytest.raises(
        DataError, match=r"key '001': its \.json has no entry 'label', only y; set images\.options\.label"
    ):
        tars(tmp_path)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^webdataset folder /nowhere not found; correct images\.options\.path$"):
        tars(Path("/nowhere"))
    write_shard(tmp_path / "train-0.tar.gz", {}, mode="w:gz")
    with pytest.raises(
        DataError, match=r"has no train-\*\.tar \(found train-0\.tar\.gz\); .* and unpack shards that are co"
    ):
        tars(tmp_path)
    write(tmp_path, {"train-0-of-3.tar": [(1, "0")], "train-1-of-3.tar": [(2, "0")], "test.tar": [(3, "0")]})
    with pytest.raises(DataError, match=r"has 2 shards of 'train' but train-0-of-3\.tar promises 3; download the miss"):
        tars(tmp_path)


def test_a_shard_is_gone_through_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, PETS)
    passes: list[str] = []
    real = webdataset.read_index
    monkeypatch.setattr(webdataset, "read_index", lambda shard, *rest: passes.append(shard.name) or real(shard, *rest))
    first = tars(tmp_path)["train"]
    assert sorted(passes) == sorted(PETS)
    again = tars(tmp_path)["train"]
    assert len(passes) == 3 and colours(again) == colours(first)
    os.utime(tmp_path / "train-1.tar", ns=(1, 1))
    tars(tmp_path)
    assert passes[3:] == ["train-1.tar"]
    write(tmp_path, {"train-1.tar": [(7, "0"), (8, "1"), (9, "0")]})
    assert colours(tars(tmp_path)["train"]) == [1, 2, 7, 8, 9] and passes[4:] == ["train-1.tar"]
    tars(tmp_path, label_key="other")
    assert len(passes) == 8


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_index_is_made_again(damage: str, tmp_path: Path, scratch: Path) -> None:
    write(tmp_path, PETS)
    wanted = colours(tars(tmp_path)["train"])
    for index in (scratch / "source-indexes").iterdir():
        if damage == "cut":
            index.write_bytes(index.read_bytes()[:-9])
        else:
            pq.write_table(pq.read_table(index).drop_columns(["size"]), index)
    assert colours(tars(tmp_path)["train"]) == wanted


def test_indexes_are_removed_with_other_scratch(tmp_path: Path, scratch: Path) -> None:
    tars(write(tmp_path, PETS))
    n_bytes = store.folder_bytes(scratch)
    assert n_bytes > 0 and store.clean() == (n_bytes, []) and list(scratch.iterdir()) == []


def test_a_shard_that_shrinks_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, PETS)
    train = tars(tmp_path)["train"]
    (tmp_path / "train-1.tar").write_bytes((tmp_path / "train-1.tar").read_bytes()[:550])
    with pytest.raises(
        DataError, match=r"train-1\.tar ends before byte [\d,]+, where an image should end; it has changed"
    ):
        train.read(np.arange(4))


def test_class_names_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    write(tmp_path, {"train-0.tar": [(1, "10"), (2, "9"), (3, "0")], "test-0.tar": [(4, "9")]}, "txt")
    splits = tars(tmp_path)
    assert splits["train"].classes == ("0", "9", "10") and splits["train"].labels.tolist() == [2, 1, 0]
    assert splits["test"].labels.tolist() == [1]
