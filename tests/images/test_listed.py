"""Lists of files and classes, as people write them: columns and files are found, mistakes are one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcpipe import images
from dcpipe.images.base import Located
from dcpipe.types import DataError

Write = Callable[..., Path]
PLAIN = "file,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n"


@pytest.fixture
def write(tmp_path: Path, png: Any) -> Write:
    """(list, files, name) -> the list, beside files of which the n-th has the colour n."""

    def make(text: str, files: str = "a.png b.png c.png d.png", name: str = "labels.csv", **more: str) -> Path:
        for number, file in enumerate(files.split()):
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(np.full((2, 2, 3), number, np.uint8)))
        (tmp_path / name).write_text(text, encoding="utf-8")
        for other, content in more.items():
            (tmp_path / f"{other}.csv").write_text(content, encoding="utf-8")
        return tmp_path / name

    return make


def read(path: Path, **options: Any) -> dict[str, images.Source]:
    return images.SOURCES["csv"](path=str(path), **options)


def content(split: images.Source) -> list[tuple[str, str, int]]:
    """Name, class and colour of each image."""
    encoded = split.read(np.arange(len(split.labels)))
    return [
        (name, split.classes[label], int(images.decode(data, 2, name)[0, 0, 0]))
        for (data, name), label in zip(encoded, split.labels.tolist(), strict=True)
    ]


FOUR = [("a.png", "cat", 0), ("b.png", "dog", 1), ("c.png", "cat", 2), ("d.png", "dog", 3)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN, "labels.csv"),
        ("\ufeff" + PLAIN.replace(",", ";").replace("\n", "\r\n"), "labels.csv"),
        (PLAIN.replace(",", "\t"), "labels.tsv"),
        ("a.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n", "no header.csv"),
        ("id,breed\na,cat\nb,dog\nc,cat\nd,dog\n", "stems.csv"),
        ("age,path,category\n3,./x/a.png,cat\n1,x/b.png,dog\n3,x/c.png,cat\n1,x/d.png,dog\n", "more columns.csv"),
    ],
)
def test_columns_and_files_are_found(write: Write, text: str, name: str) -> None:
    splits = read(write(text, name=name), test_share=0.5)
    assert sorted(content(splits["train"]) + content(splits["test"])) == FOUR
    assert splits["train"].classes == ("cat", "dog") and len(splits["test"].labels) == 2


def test_labels_that_are_names_of_files_are_labels(write: Write) -> None:
    files = "0.png 1.png 2.png 3.png"
    splits = read(write("y,file\n1,0.png\n0,1.png\n1,2.png\n0,3.png\n", files), test_share=0.5)
    assert sorted(content(splits["train"]) + content(splits["test"])) == [
        ("0.png", "1", 0),
        ("1.png", "0", 1),
        ("2.png", "1", 2),
        ("3.png", "0", 3),
    ]


@pytest.mark.parametrize("words", ["train test", "Training val", "TRAIN validation"])
def test_a_column_says_what_is_test(write: Write, words: str) -> None:
    train, test = words.split()
    text = f"file,label,split\na.png,cat,{train}\nb.png,dog,{train}\nc.png,cat,{test}\nd.png,dog,other\n"
    splits = read(write(text))
    assert content(splits["train"]) == FOUR[:2] and content(splits["test"]) == FOUR[2:3]
    assert content(read(write(text), test="other")["test"]) == FOUR[3:]
    one_class = text.replace("dog,other", f"cat,{test}")
    assert len(read(write(one_class), test_share=0.5, train=test)["train"].labels) == 1


def test_a_second_list_says_what_is_test(write: Write) -> None:
    path = write("file,label\na.png,cat\nb.png,dog\n", other="file,label\nc.png,cat\nd.png,dog\n")
    splits = read(path, test="other.csv")
    assert content(splits["train"]) == FOUR[:2] and content(splits["test"]) == FOUR[2:]
    with pytest.raises(
        DataError, match=r"other\.csv: class 'dog' is not on the class list; correct images\.options\.c"
    ):
        read(write("file,label\na.png,cat\n"), test="other.csv")


def test_the_images_may_be_elsewhere(write: Write, tmp_path: Path) -> None:
    text, files = "file,label\nx/a.png,cat\nb.png,cat\nc.png,dog\nd.png,dog\n", "x/a.png x/y/b.png x/c.png x/d.png"
    splits = read(write(text, files), images=str(tmp_path / "x"), test_share=0.5)
    assert isinstance(splits["train"], Located)
    found = [
        (where.file, label)
        for split in splits.values()
        for where, label in zip(split.where(np.arange(2)), split.labels.tolist(), strict=True)
    ]
    assert sorted(found) == [("a.png", 0), ("c.png", 1), ("d.png", 1), ("y/b.png", 0)]
    assert splits["train"].elsewhere.root == str(tmp_path / "x")


def test_a_changed_list_is_noticed(write: Write) -> None:
    path = write(PLAIN)
    before = images.list_source(images.SOURCES["csv"], {"path": str(path), "test_share": 0.5})
    path.write_text(PLAIN + "\n", encoding="utf-8")
    assert before != images.list_source(images.SOURCES["csv"], {"path": str(path), "test_share": 0.5})


WRONG = {
    "a.png,cat\nb.png\n": r"row 2 has 1 columns, but the first has 2; correct it$",
    "": r"is empty; give a list with a file and its class in every line$",
    "file,label\nq.png,cat\nr.png,dog\n": r"has no column of which most entries are files in .*; it has file, label",
    "file,label\na.png,cat\nq.png,dog\n": r"1 of 2 files are not in .*, or several have their name, first 'q\.png'",
    "file,label\na.png,cat\nb.png,\n": r"gives no class to 'b\.png'; add it, or remove the row$",
    "file,label\na.png,cat\na.png,dog\n": r"gives 'a\.png' to classes 'cat' and 'dog'; keep one row$",
    "file,x,z\na.png,cat,1\nb.png,dog,2\n": r"none of those without files is called label, .*; set images\.options",
    "file,label,split\na.png,cat,one\nb.png,dog,one\n": r"'split' has none of train, training, only 'one'; s",
    "file,file\na.png,cat\n": r"the names of its columns repeat \(file, file\); make them distinct$",
    'file,label\n"a.png,cat': r"(row 2 has 1 columns|cannot be read as a list)",
}


@pytest.mark.parametrize("text", WRONG)
def test_mistakes_are_one_sentence(write: Write, text: str) -> None:
    with pytest.raises(DataError, match=WRONG[text]) as error:
        read(write(text), test_share=0.5)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named(write: Write, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"does not say which images are test; set images\.options\.test_share: 0\.2, or"
    ):
        read(write(PLAIN))
    with pytest.raises(DataError, match=r"has no column 'colour', only file, label; correct images\.options$"):
        read(write(PLAIN), label_column="colour", test_share=0.5)
    with pytest.raises(DataError, match=r"list .*/none\.csv cannot be read \(No such file or directory\)"):
        read(write(PLAIN).with_name("none.csv"), test_share=0.5)
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff,cat\n")
    with pytest.raises(DataError, match=r"is not UTF-8 \(byte 11\); save it as UTF-8$"):
        read(tmp_path / "labels.csv", test_share=0.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"/empty has no images \(\.bmp, .*\); correct the path$"):
        read(write(PLAIN), images=str(tmp_path / "empty"), test_share=0.5)
