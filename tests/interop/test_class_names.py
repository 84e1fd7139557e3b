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
    with pytest.raises(DataError, match=r"artifact\.json"):
        read_class_names(tmp_path)
