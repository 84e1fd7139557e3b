"""Corrupt images: all of them in one sentence and in one list, and left out by request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dcpipe.images import corruption
from dcpipe.images.inspection import Corrupt, PartReport
from dcpipe.types import DataError


def reports(*corrupt: tuple[Corrupt, ...]) -> list[PartReport]:
    return [PartReport(0, 0, (0, 0, 0), (0, 0, 0), (), (), corrupt=images) for images in corrupt]


FIVE = {
    "train": reports((Corrupt(3, "a/3.png", "cut"),), (), (Corrupt(9, "b/9.png", "empty"), Corrupt(12, "c", "x"))),
    "minival": reports((Corrupt(5, "a/5.png", "cut"),)),
    "test": reports((Corrupt(3, "t/3.png", "HTML"),)),
}


def test_all_are_listed_in_order(tmp_path: Path) -> None:
    found = corruption.listed(FIVE)
    assert [(image["split"], image["id"]) for image in found] == [
        ("train", 3),
        ("train", 9),
        ("train", 12),
        ("minival", 5),
        ("test", 3),
    ]
    corruption.write(tmp_path / "new" / "corrupt.json", found)
    assert json.loads((tmp_path / "new" / "corrupt.json").read_text(encoding="utf-8")) == found
    assert found[1] == {"split": "train", "id": 9, "file": "b/9.png", "reason": "empty"}
    assert corruption.listed({"train": reports((), ())}) == []


def test_one_sentence_names_the_count_some_files_the_list_and_the_remedy() -> None:
    with pytest.raises(DataError) as error:
        corruption.stop(corruption.listed(FIVE), 1300, Path("x/corrupt.json"))
    assert str(error.value) == (
        "5 of 1,300 images are corrupt: a/3.png (cut), b/9.png (empty), c (x) and 2 more; x/corrupt.json lists all "
        "with the reasons; replace or remove them, or set images.on_corrupt: skip to leave them out"
    )
    with pytest.raises(DataError, match=r"^1 of 9 images is corrupt: t/3\.png \(HTML\); x lists all"):
        corruption.stop(corruption.listed({"test": FIVE["test"]}), 9, Path("x"))


def test_ids_are_those_of_the_split() -> None:
    rows = {"train": np.array([0, 3, 9, 10, 12]), "minival": np.array([5]), "test": np.arange(4)}
    kept = corruption.without(rows, corruption.listed(FIVE))
    assert {split: found.tolist() for split, found in kept.items()} == {
        "train": [0, 10],
        "minival": [],
        "test": [0, 1, 2],
    }
