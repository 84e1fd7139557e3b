"""Test images that are also train images: told, refused above a share, and in the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from card_facts import META

from dcpipe.images import leakage
from dcpipe.release.card import card
from dcpipe.types import DataError

NONE = {"train_images": 0, "test_images": 0, "pairs": 0, "first": []}
SOME = {"train_images": 3, "test_images": 2, "pairs": 3, "first": [[7, 1], [8, 1], [9, 4]]}


def test_it_is_described_with_numbers_and_not_at_all_without_duplicates() -> None:
    assert leakage.describe(NONE, 10) == ""
    assert leakage.describe(SOME, 40) == "2 of 40 test images (5.00 %) are also train images, pixel by pixel"


@pytest.mark.parametrize(("duplicates", "n", "allowed"), [(NONE, 10, 0.0), (SOME, 200, 0.01), (SOME, 2, 1.0)])
def test_as_much_as_is_allowed_passes(duplicates: dict, n: int, allowed: float) -> None:
    leakage.check(duplicates, n, allowed)


@pytest.mark.parametrize(("n", "allowed"), [(199, 0.01), (1000, 0.0)])
def test_more_is_refused_with_an_example_and_a_remedy(n: int, allowed: float) -> None:
    with pytest.raises(DataError) as error:
        leakage.check(SOME, n, allowed)
    assert str(error.value).startswith(f"2 of {n:,} test images (")
    assert str(error.value).endswith(
        f"for example test image 1 and train image 7; images.max_leakage allows {100 * allowed:g} %; "
        "remove them from a split, or raise it (up to 1)"
    )


def test_it_is_read_from_a_finished_artifact_and_written_into_the_card(tmp_path: Path) -> None:
    assert leakage.recorded(tmp_path) == ""
    (tmp_path / "duplicates.json").write_text(json.dumps(SOME), encoding="utf-8")
    (tmp_path / "artifact.json").write_text(json.dumps({"meta": {"counts": {"test": 40}}}), encoding="utf-8")
    found = leakage.recorded(tmp_path)
    assert found.startswith("2 of 40 test images")
    assert f"Of the source, {found}: accuracy on those measures memory." in card(META, [], {}, found)
    assert "measures memory" not in card(META, [], {})


@pytest.mark.parametrize("text", ["{", "[]", '{"test_images": "x"}', "[" * 100_000])
def test_a_damaged_record_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "artifact.json").write_text('{"meta": {"counts": {"test": 9}}}', encoding="utf-8")
    (tmp_path / "duplicates.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        leakage.recorded(tmp_path)
    assert str(error.value).startswith(f"{tmp_path} cannot be read as an artifact of images (")
