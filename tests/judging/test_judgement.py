"""Results of judging: numbers are those of their rows, files come back, and a stranger's file is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from judgements import NO_LABELS, judgement, row

from dcpipe.judging.judgement import JUDGEMENT, METRICS, TABLE, is_current, load, metrics, save, table
from dcpipe.store.artifact import publish
from dcpipe.types import DataError

OWN = row("own", [98.0, 98.2, 98.4])
HARD = row("hard", [95.0], **NO_LABELS)


def test_a_row_tells_what_a_claim_needs() -> None:
    assert (OWN.total_bytes, OWN.images_seen) == (72_300, 3000)
    assert OWN.told() == "98.2 ± 0.2"
    assert HARD.told() == "95.0 (n = 1)", "no deviation of one seed"
    assert row("own", [95.0, 96.06]).told() == "95.0, 96.1 (n = 2)"


def test_rows_are_found_by_student_and_kind() -> None:
    found = judgement(OWN, HARD, row("own", [90.0], "other"))
    assert found.students() == ["net", "other"] and found.own == "own"
    assert found.of("net") == [OWN, HARD] and found.row("hard", "net") == HARD
    assert found.row("hard", "other") is None, "what was not run is absent"


def test_files_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "judgement"
    folder.mkdir(parents=True)
    made = judgement(OWN, row("hard", [95.0], **NO_LABELS, curve=[[10.0, 90.5], [30.0, 95.0]]))
    save(folder, made)
    assert load(tmp_path) == load(folder) == load(folder / JUDGEMENT) == made
    assert json.loads((folder / METRICS).read_text(encoding="utf-8")) == metrics(made)
    with (folder / TABLE).open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (first["accuracy"], first["std"], first["seeds"], first["total_bytes"]) == ("98.2", "0.2", "3", "72300")
    assert (second["std"], second["images_seen"], second["label_bytes"]) == ("", "3000", "0")


def test_metrics_are_a_tree_for_each_network() -> None:
    found = judgement(OWN, row("own 3", [50.0, 51.0, 52.0]), HARD, row("own", [90.0], "other"))
    assert metrics(found) == {
        "net": {
            "accuracy": {"set": 98.2, "own_3": 51.0, "hard": 95.0},
            "std": 0.2,
            "bytes": {"labels": 49_800, "total": 72_300},
        },
        "other": {"accuracy": {"set": 90.0}, "bytes": {"labels": 49_800, "total": 72_300}},
    }


def test_lines_of_the_table_are_told_apart() -> None:
    assert [line["set"] for line in table(judgement(OWN, HARD))] == ["set, own", "set, hard"]
    longer = row("all_images", [99.0], epochs=60)
    names = [line["set"] for line in table(judgement(OWN, longer, row("own", [90.0], "other")))]
    assert names == ["set, own, net", "set, all_images, 60 epochs, net", "set, own, other"]


def test_a_judgement_is_current_if_it_is_on_the_images_that_are_there(tmp_path: Path) -> None:
    def images(value: int) -> str:
        staging = tmp_path / "staging"
        staging.mkdir()
        return publish(staging, tmp_path / "data/images", "images", {"value": value}, {}).digest

    assert not is_current(tmp_path)
    data = judgement(OWN).data.model_copy(update={"digest": images(0)})
    assert not is_current(tmp_path), "there is none"
    (tmp_path / "data/judgement").mkdir()
    save(tmp_path / "data/judgement", judgement(OWN, data=data))
    assert is_current(tmp_path)
    images(1)
    assert not is_current(tmp_path), "the images were read anew, and are others"
    images(0)
    assert is_current(tmp_path)
    (tmp_path / "data/judgement" / JUDGEMENT).write_text("{", encoding="utf-8")
    assert not is_current(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rows": []}, "rows: List should have at least 1 item"),
        ({"format": 2}, "format: Input should be less than or equal to 1"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"what": 3}, "what: Input should be a valid string"),
        ({"rows": [OWN.model_dump() | {"accuracy": [98.0]}]}, "needs distinct seeds and one accuracy for each"),
        ({"rows": [OWN.model_dump() | {"seeds": [0, 0, 0]}]}, "needs distinct seeds and one accuracy for each"),
        ({"rows": [OWN.model_dump() | {"accuracy": [900.0] * 3}]}, "Input should be less than or equal to 100"),
    ],
)
def test_other_files_are_refused(change: dict[str, object], sentence: str, tmp_path: Path) -> None:
    content = {**judgement(OWN).model_dump(), **change}
    (tmp_path / JUDGEMENT).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert sentence in str(error.value) and str(error.value).endswith("; judge the set again")


def test_a_folder_without_a_judgement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no judgement.json; give the folder of a judgement, which `dcpipe judge"):
        load(tmp_path)
