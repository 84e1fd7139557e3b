"""The report of the images, against a reference that looks at every image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card_facts import META

from dcpipe.images import report
from dcpipe.images.inspection import Corrupt, PartReport
from dcpipe.release.card import card
from dcpipe.types import DataError


def part(sides: list[tuple[int, int]], hashes: list[str], grey: int = 0, corrupt: int = 0) -> PartReport:
    bad = tuple(Corrupt(i, "x", "cut") for i in range(corrupt))
    n = len(sides)
    return PartReport(n, n, (0, 0, 0), (0, 0, 0), tuple(range(n)), tuple(hashes), tuple(sides), grey, bad)


PARTS = {
    "train": [
        part([(8, 8), (16, 8), (17, 8), (3, 500)], ["a", "b", "a", "c"], grey=2),
        part([(32, 32), (31, 31), (64, 100)], ["d", "a", "e"], corrupt=2),
    ],
    "minival": [part([(7, 40)], ["b"])],
    "test": [part([(4000, 3000), (1, 1)], ["a", "z"], grey=1, corrupt=1)],
}
LABELS = np.array([0, 0, 2, 0, 1, 2, 0])


def made(size: int = 32) -> report.Report:
    return report.report(PARTS, LABELS, ("cat", "dog", "emu"), size, {"test_images": 1})


def test_it_says_what_the_images_are_like() -> None:
    found = made()
    sides = [side for parts in PARTS.values() for one in parts for side in one.sides]
    assert found.counts == {"train": 7, "minival": 1, "test": 2} and len(sides) == 10
    assert found.enlarged_2x == sum(32 / min(side) > 2 for side in sides) / 10
    assert found.enlarged_4x == sum(32 / min(side) > 4 for side in sides) / 10
    assert found.cropped == sum(min(side) ** 2 < side[0] * side[1] / 2 for side in sides) / 10 == 0.3
    assert found.grey == 0.3
    assert found.sides == {"smallest": [1, 1], "median": [31, 31], "largest": [4000, 3000]}
    assert (found.per_class.fewest, found.per_class.median, found.per_class.most) == (1, 2, 4)
    assert [(one.name, one.images) for one in found.per_class.smallest] == [("dog", 1), ("emu", 2), ("cat", 4)]
    assert (found.repeated, found.leaked, found.skipped) == (3, 1, 3)


def test_it_is_told_in_lines() -> None:
    assert made().lines() == [
        "7 train, 1 minival and 2 test images of 3 classes",
        "1 to 4 train images per class, median 2; fewest: dog (1), emu (2), cat (4)",
        "sizes 1x1 to 4000x3000, median 31x31, read at 32x32",
        "60.0 % are enlarged more than 2x, 30.0 % more than 4x; 30.0 % lose more than half of their area by the crop "
        "to a square",
        "30.0 % are grey",
        "3 train images repeat another one, and 1 test images are also in train",
        "3 corrupt images were left out",
    ]
    even = report.report(PARTS, np.array([0, 1]), ("a\x1b[31m", "b"), 32, {"test_images": 0})
    assert even.lines()[1] == "1 train images per class" and not any("\x1b" in line for line in even.lines())


def artifact(folder: Path, lineage: Any) -> Path:
    (folder / "artifact.json").write_text(json.dumps({"lineage": lineage}), encoding="utf-8")
    return folder


def test_it_is_read_from_a_finished_artifact_and_written_into_the_card(tmp_path: Path) -> None:
    assert report.recorded(tmp_path) is None
    assert report.recorded(artifact(tmp_path, {"stage": "images"})) is None, "an older artifact"
    found = report.recorded(artifact(tmp_path, {"report": json.loads(json.dumps(made().model_dump(), sort_keys=True))}))
    assert found is not None and found.lines() == made().lines()
    text = card(META, [], {}, source=[*found.lines(), "<b> [x](y)"])
    assert "## Source images\n\n- 7 train, 1 minival and 2 test images of 3 classes\n" in text
    assert "- &lt;b&gt; \\[x\\](y)\n" in text and "Source images" not in card(META, [], {})


@pytest.mark.parametrize("wrong", [3, {"counts": {}}, {**made().model_dump(), "grey": 2}])
def test_a_damaged_one_is_one_sentence(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"artifact\.json is damaged \(in lineage\.report .*; remove .* `dvc repro`$"):
        report.recorded(artifact(tmp_path, {"report": wrong}))
