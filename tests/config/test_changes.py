"""The one rule by which parameters are changed, for presets and for the variants of a study."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dcpipe.config.changes import ANEW, changed, merged
from dcpipe.config.params import Params

CONTENT: dict[str, Any] = {
    "images": {"source": "digits", "options": {"test_share": 0.2}, "size": 8, "minival": 0.1, "seed": 0},
    "selection": {"method": "score", "ipc": 10, "options": {"alpha": 5.0}},
    "release": {"name": "a", "teacher": False},
}


def test_mappings_are_merged_others_replaced_and_null_removes() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 3, "e": 4}
    new = {"a": {"c": [3], "f": {"g": 5, "h": None}}, "d": {"i": 6}, "e": None, "j": None}
    before = copy.deepcopy((old, new))
    assert merged(old, new) == {"a": {"b": 1, "c": [3], "f": {"g": 5}}, "d": {"i": 6}}
    assert (old, new) == before


def test_a_block_is_merged_if_nothing_else_is_chosen() -> None:
    found = changed(CONTENT, {"selection": {"ipc": 50, "options": {"beta": 0.1}}, "softlabels": {"views": 3}})
    assert found["selection"] == {"method": "score", "ipc": 50, "options": {"alpha": 5.0, "beta": 0.1}}
    assert found["softlabels"] == {"views": 3}
    assert found["release"] == CONTENT["release"]


@pytest.mark.parametrize(
    ("block", "changes", "expected"),
    [
        ("images", {"source": "parquet"}, {"source": "parquet", "size": 8, "minival": 0.1, "seed": 0}),
        ("selection", {"method": "random"}, {"method": "random", "ipc": 10}),
        ("selection", {"method": "score"}, {"method": "score", "ipc": 10}),
    ],
)
def test_another_choice_discards_its_block(block: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert changed(CONTENT, {block: changes}) == {**CONTENT, block: expected}


@pytest.mark.parametrize("block", ANEW)
def test_what_stays_are_keys_of_the_block(block: str) -> None:
    annotation = Params.model_fields[block].annotation
    assert annotation is not None
    chooses, kept = ANEW[block]
    assert {chooses, *kept} <= annotation.model_fields.keys()
