"""What every method gets: teachers by name, and a function for its record, which is optional."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenes import World

from dcpipe.synthesis import Progress
from dcpipe.types import DataError


def test_teachers_are_chosen_by_name_in_the_requested_order(tmp_path: Path) -> None:
    context = World(tmp_path).context
    assert list(context.choose(None)) == list(context.observers) == ["res", "conv"]
    assert list(context.choose(["conv", "res"])) == ["conv", "res"]
    assert context.choose(["conv"]) == {"conv": context.observers["conv"]}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["res", "who"], "synthesis: observer 'who' is not among the teachers; choose from res, conv"),
        ([], "synthesis: observers is an empty list; name at least one, or leave it out to use all teachers"),
    ],
)
def test_unknown_teachers_and_none_are_refused(names: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        World(tmp_path).context.choose(names)
    assert str(caught.value) == sentence


def test_records_are_passed_to_the_given_function(tmp_path: Path) -> None:
    kept: list[tuple[str, list[dict[str, int]]]] = []
    rows = [{"loop": 0, "subset": 1}]
    Progress(tmp_path, tmp_path, lambda *_: None).record("subsets", rows)
    Progress(tmp_path, tmp_path, lambda *_: None, lambda *record: kept.append(record)).record("subsets", rows)
    assert kept == [("subsets", rows)]
