"""What is recognised at a place, beside the folders of test_own_images.py, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path

import own_sets as sets
import pytest
from object_store import Bucket

from dcpipe.config import check, params, presets
from dcpipe.config.changes import changed
from dcpipe.types import DataError
from dcpipe.workspace import own_images, recognising
from dcpipe.workspace.recognising import recognise


@pytest.mark.parametrize(
    ("layout", "source", "options"),
    [
        (sets.folders("train", "val"), "imagefolder", {}),
        (sets.parquet("data/train-0.parquet", "data/test-0.parquet"), "parquet", {}),
        (sets.tars("train-0.tar"), "webdataset", {"test_share": 0.2}),
        (sets.listed(""), "csv", {"test_share": 0.2}),
    ],
)
def test_an_object_store_is_looked_at_as_this_machine_is(
    layout: sets.Layout, source: str, options: dict[str, object], bucket: Bucket, scratch: Path, tmp_path: Path
) -> None:
    layout(tmp_path / "here")
    url = bucket.put_folder(tmp_path / "here", f"recognised-{source}")
    found = recognise(url)
    assert (found.source, found.options) == (source, options) and str(found.place).startswith(url)
    assert f"path: '{url}" in own_images.text(url, tmp_path) or f"path: {url}" in own_images.text(url, tmp_path)


def test_a_file_is_the_set(tmp_path: Path) -> None:
    sets.both(sets.parquet("a.parquet", "train.parquet"), sets.listed(""), sets.tars("x.tar"))(tmp_path)
    for file, source in (("a.parquet", "parquet"), ("x.tar", "webdataset")):
        found = recognise(str(tmp_path / file))
        assert (found.source, found.options, found.place) == (source, {"train": file, "test_share": 0.2}, tmp_path)
    found = recognise(str(tmp_path / "labels.csv"))
    assert (found.source, found.place) == ("csv", tmp_path / "labels.csv")


def test_a_second_list_is_test(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(8)]
    sets.files({name: sets.picture(i) for i, name in enumerate(names)})(tmp_path)
    for file, some in (("train.csv", names[:6]), ("test.csv", names[6:])):
        sets.put(tmp_path, file, "file,label\n" + "".join(f"{name},x{i % 2}\n" for i, name in enumerate(some)))
    found = recognise(str(tmp_path))
    assert (found.source, found.options, found.place) == ("csv", {"test": "test.csv"}, tmp_path / "train.csv")


def put_list(root: Path, name: str, rows: int, missing: int = 0, label: str = "x") -> None:
    lines = [f"{i}.png,{label}{i % 2}\n" for i in range(rows)] + [f"lost {i}.png,{label}0\n" for i in range(missing)]
    sets.put(root, name, "file,label\n" + "".join(lines))


@pytest.mark.parametrize("inside", ["", "pictures/"])
def test_a_list_with_missing_files_names_them(inside: str, tmp_path: Path) -> None:
    sets.files({f"{inside}{i}.png": sets.picture(i) for i in range(8)})(tmp_path)
    put_list(tmp_path, "labels.csv", 8, missing=2)
    for where in (tmp_path, tmp_path / "labels.csv"):
        with pytest.raises(DataError) as error:
            recognise(str(where))
        assert str(error.value) == (
            f"{tmp_path}/labels.csv: 2 of 10 files are not in {tmp_path}, or several have their name, first "
            "'lost 0.png'; restore the files, or remove their rows"
        )


def test_of_several_lists_none_is_chosen_silently(tmp_path: Path) -> None:
    sets.files({f"{i}.png": sets.picture(i) for i in range(8)})(tmp_path)
    put_list(tmp_path, "coarse.csv", 8)
    put_list(tmp_path, "fine.tsv", 8)
    (tmp_path / "fine.tsv").write_text((tmp_path / "coarse.csv").read_text().replace(",", "\t"))
    with pytest.raises(DataError) as error:
        recognise(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} has several lists with files and classes (coarse.csv, fine.tsv); give one of them, such as --data "
        f"{tmp_path}/coarse.csv"
    )
    assert recognise(str(tmp_path / "fine.tsv")).place == tmp_path / "fine.tsv"
    put_list(tmp_path, "train.csv", 8)
    found = recognise(str(tmp_path))
    assert found.place == tmp_path / "train.csv" and "not used: coarse.csv, fine.tsv" in found.notes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CIFAR10", {"download": True}),
        ("EMNIST", {"download": True, "arguments": {"split": "balanced"}}),
        ("Places365", {"download": True, "arguments": {"small": True}}),
        ("ImageNet", {}),
    ],
)
def test_a_set_of_torchvision_is_known_by_its_name(name: str, options: dict[str, object], tmp_path: Path) -> None:
    found = recognise(name)
    assert (found.source, found.options) == ("torchvision", {"name": name, "root": "downloads", **options})
    text = own_images.text(name, tmp_path)
    assert f"Recognised: the set {name} of torchvision" in text and ("download: true" in text) == (
        "download" in options
    )


REFUSED: dict[str, tuple[sets.Layout, str, str]] = {
    "nothing": (
        sets.files({}),
        "nowhere",
        r"/nowhere is not there, and torchvision has no set of this name; --data takes",
    ),
    "an archive": (sets.files({"x.zip": "x"}), "x.zip", r"/x\.zip is a packed archive; unpack it, and give the folder"),
    "a text": (sets.files({"x.txt": "x"}), "x.txt", r"/x\.txt is a file; --data takes class folders"),
    "an empty folder": (
        sets.files({"x/.hidden": "x"}),
        "x",
        r"/x has nothing in it, which is none of the layouts that",
    ),
    "images alone": (
        sets.files({f"x/{i}.png": "x" for i in range(9)}),
        "x",
        r"/x has 0 folders and 9 files \(0\.png, 1\.png, 2\.png, 3\.png, 4\.png, 5\.png, …\), which is none of the",
    ),
    "a list of something else": (
        sets.files({"x/a.csv": "a,b\n7,8\n", "x/1.png": "x", "x/2.png": "x", "x/y/z.txt": ""}),
        "x",
        r"/x has 1 folders and 3 files \(y/, 1\.png, 2\.png, a\.csv\), which is none",
    ),
    "such a list itself": (
        sets.files({"x/a.csv": "a,b\n1,2\n", "x/q.png": "x"}),
        "x/a.csv",
        r"/x/a\.csv has no column with files of images beside it, or none with their classes; --data takes",
    ),
    "two configurations": (
        sets.parquet("en/train.parquet", "de/train.parquet"),
        ".",
        r" has 2 configurations \(de, en\); give one of them, such as --data .*/de$",
    ),
    "names that braces cannot list": (
        sets.parquet("a,b.parquet", "c.parquet"),
        ".",
        r": rename 'a,b\.parquet', so that",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_one_sentence(case: str, tmp_path: Path) -> None:
    layout, where, sentence = REFUSED[case]
    layout(tmp_path)
    with pytest.raises(DataError, match=sentence) as error:
        recognise(str(tmp_path / where))
    assert "\n" not in str(error.value)


def test_a_web_server_has_no_list_of_files() -> None:
    with pytest.raises(DataError, match=r"^https://x\.org/set is on a web server, which has no list of files; copy"):
        recognise("https://x.org/set")


def test_the_generic_preset_is_a_valid_file() -> None:
    generic = presets.preset(own_images.NAME)
    assert not list(check.problems(params.parse(changed(generic.params, {}))))
    assert recognising.DATA in own_images.missing_data()
