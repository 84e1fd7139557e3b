"""Names that do not exist, and what was meant."""

from __future__ import annotations

import pytest

from dcpipe.types.names import one_of, similar


@pytest.mark.parametrize(
    ("name", "meant"),
    [("pul", ["pull", "pull-all"]), ("statsu", ["status"]), ("xyz", []), ("", []), ("pubish", ["publish"])],
)
def test_similar_names(name: str, meant: list[str]) -> None:
    assert similar(name, ["status", "pull", "publish", "pull-all"]) == meant


def test_no_more_than_a_sentence_takes() -> None:
    assert similar("a", [f"a{number}" for number in range(9)]) == ["a0", "a1", "a2", "a3", "a4"]


def test_names_in_a_sentence() -> None:
    assert [one_of(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]
