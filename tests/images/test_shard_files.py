"""Which files are the shards of a split."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpipe.images.places import Remote
from dcpipe.images.shard_files import MOST, expanded, shards_of, shards_of_test, some_names
from dcpipe.types import DataError


def plant(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, split: str, suffix: str = ".tar") -> list[str]:
    return [str(path.relative_to(root)) for path in shards_of(root, split, suffix)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("names", "shards"),
    [
        (["train-1.tar", "train-0.tar", "train-0.idx", "trainer-0.tar", "test-0.tar"], ["train-0.tar", "train-1.tar"]),
        (["train-0-of-2.tar", "train-1-of-2.tar"], ["train-0-of-2.tar", "train-1-of-2.tar"]),
        (["data/train-0.tar", "train/0.tar"], ["train/0.tar"]),
        (["train-0.tar", "data/train-0.tar", "train/0.tar", "train.tar"], ["train-0.tar"]),
        (["train/b.tar", "train/a.tar", "train/deep/c.tar", "train.tar"], ["train/a.tar", "train/b.tar"]),
        (["train.tar", "data/train-0.tar"], ["train.tar"]),
        (["data/train/0.tar"], ["data/train/0.tar"]),
        (["data/train.tar", "train/readme.md"], ["data/train.tar"]),
        (["train-0.tar.gz", "x.tar"], []),
    ],
)
def test_the_files_of_a_split(names: list[str], shards: list[str], tmp_path: Path) -> None:
    assert found(plant(tmp_path, *names), "train") == shards


def test_a_split_may_be_in_a_folder_and_its_name_is_no_pattern(tmp_path: Path) -> None:
    plant(tmp_path, "a/[x]-0.tar", "a/x-0.tar", "data/b/y-0.tar")
    assert found(tmp_path, "a/[x]") == ["a/[x]-0.tar"] and found(tmp_path, "b/y") == ["data/b/y-0.tar"]
    assert found(tmp_path / "nowhere", "a") == []


def test_files_may_be_named_and_need_not_be_listed(tmp_path: Path) -> None:
    assert found(tmp_path, "d/n-{08..10}.tar") == ["d/n-08.tar", "d/n-09.tar", "d/n-10.tar"]
    web = Remote("https://host/set")
    assert [str(file) for file in shards_of(web, "{a,b}-0.tar", ".tar")] == [
        "https://host/set/a-0.tar",
        "https://host/set/b-0.tar",
    ]
    with pytest.raises(DataError) as error:
        shards_of(web, "train", ".parquet")
    assert str(error.value) == (
        "https://host/set is on a web server, which has no list of files, so the split 'train' cannot be looked for; "
        "name the files of both splits, for example images.options.train: 'train-{00000..00009}.parquet'"
    )


@given(
    low=st.integers(0, 120),
    more=st.integers(0, 20),
    width=st.integers(1, 4),
    listed=st.lists(st.text("xyz", max_size=3), min_size=2, max_size=4),
)
def test_braces_are_those_of_a_shell(low: int, more: int, width: int, listed: list[str]) -> None:
    first, last = (str(number).zfill(width) for number in (low, low + more))
    numbers = [str(number).zfill(len(first)) for number in range(low, low + more + 1)]
    pattern = f"p-{{{first}..{last}}}/{{{','.join(listed)}}}.tar"
    assert expanded(pattern) == [f"p-{number}/{name}.tar" for number, name in itertools.product(numbers, listed)]
    assert expanded("train-{0}.tar") == ["train-{0}.tar"]


@pytest.mark.parametrize("pattern", ["{5..4}.tar", f"{{0..{MOST}}}.tar", "{0..999}{0..999}.tar", "{0..9999999999}"])
def test_braces_stand_for_a_bounded_number_of_files(pattern: str) -> None:
    with pytest.raises(DataError, match=r"counts from .* count up, to 100,000 at most|names more than 100,000 files"):
        expanded(pattern)


def test_no_shard_may_be_missing(tmp_path: Path) -> None:
    plant(tmp_path, "train-00000-of-00003.tar", "train-00002-of-00003.tar")
    with pytest.raises(
        DataError, match=r"has 2 shards of 'train' but train-00000-of-00003\.tar promises 3; download the"
    ):
        shards_of(tmp_path, "train", ".tar")


def test_test_is_known_by_its_other_names_and_files_are_named_in_messages(tmp_path: Path) -> None:
    plant(tmp_path, "val-0.tar", "data/valid/0.tar")
    assert [file.name for file in shards_of_test(tmp_path, "test", ".tar")] == ["0.tar"]
    assert shards_of_test(tmp_path, "dev", ".tar") == []
    assert some_names(tmp_path, ".tar", "none") == "val-0.tar" and some_names(tmp_path, ".zip", "none") == "none"
    plant(tmp_path, *(f"{number}.zip" for number in range(7)))
    assert some_names(tmp_path, ".zip", "none") == "0.zip, 1.zip, 2.zip, 3.zip, 4.zip, …"
