"""Class names from what a user has at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import releases

from dcpipe import store
from dcpipe.interop.class_names import read_class_names
from dcpipe.types import DataError

NAMES = ("tench", "goldfish", "white shark")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", json.dumps(NAMES)),
        ("x.json", json.dumps({"goldfish": 1, "white shark": 2, "tench": 0})),
        ("x.txt", "tench\ngoldfish\r\n\n white shark \n"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = read_class_names(tmp_path / name)
    assert (found.names, found.constants) == (NAMES, None)


def test_artifacts_say_their_constants_too(tmp_path: Path) -> None:
    release = releases.build(tmp_path / "out", releases.parts())
    found = read_class_names(release.path)
    assert (found.names, found.constants) == (NAMES, ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    store.publish(_folder(tmp_path), tmp_path / "set", "synthesis", {"classes": list(NAMES)}, {})
    assert read_class_names(tmp_path / "set").constants is None


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name / "more").mkdir(parents=True)
        (root / name / "more" / "a.JPG").touch()
    return root


@pytest.mark.parametrize("split", ["", "train", "Training"])
def test_class_folders_are_sorted_as_images_of_ones_own_are(tmp_path: Path, split: str) -> None:
    root = folders(tmp_path / "set" / split, "tench", "goldfish", "white shark")
    (root / ".cache").mkdir()
    (root / "list.txt").touch()
    if split:
        folders(tmp_path / "set" / "val", "another")
    found = read_class_names(tmp_path / "set")
    assert (found.names, found.constants) == (("goldfish", "tench", "white shark"), None)
    assert found.note.endswith(", sorted: goldfish, tench, white shark")
    vehicles = folders(tmp_path / "vehicles", "train", "car")
    (vehicles / "train" / "more" / "a.JPG").rename(vehicles / "train" / "a.jpg")
    (vehicles / "train" / "more").rmdir()
    assert read_class_names(vehicles).names == ("car", "train")
    numbered = folders(tmp_path / "numbered", *map(str, range(11)))
    assert read_class_names(numbered).names == tuple(map(str, range(11)))
    assert (
        read_class_names(numbered).note
        == "class names are those of the folders in numbered, sorted: 0, 1, 2, 3, 4, ..."
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folders(tmp_path / "data", "images")
    (tmp_path / "data" / "teacher" / "main").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"data is no folder of class folders \(.*teacher has no images\), nor one that"
    ):
        read_class_names(tmp_path / "data")
    with pytest.raises(DataError, match=r"main is no folder of class folders, nor one that dcpipe wrote; give a JSON"):
        read_class_names(tmp_path / "data" / "teacher" / "main")


def _folder(root: Path) -> Path:
    (root / "made").mkdir()
    return root / "made"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        (
            "x.json",
            b"[1, 2]",
            r"x.json is damaged \(classes.0: Input should be a valid string, got 1\); give a JSON list, {n",
        ),
        ("x.json", b'{"a": 1, "b": 2}', r"x.json: its indices must be 0..1, each once; correct the file"),
        ("x.json", b'{"a": true, "b": 0}', r"x.json: its indices must be 0..1"),
        ("x.json", b"[", r"x.json is damaged"),
        ("x.json", b'["a", "a"]', r"x.json: class names repeat; make them distinct"),
        ("x.txt", b"", r"x.txt is damaged \(classes: List should have at least 1 item"),
        ("x.txt", b"\xff\xfe\x00", r"x.txt is damaged"),
        ("x.txt", b"a\nb\na\n", r"x.txt: class names repeat"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        read_class_names(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^class list .*nowhere is not there; give a JSON list, {name: index}, a text fi"
    ):
        read_class_names(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is no folder of class folders"):
        read_class_names(tmp_path)
