"""How a preset is composed: bases in order, what an entry changes, and texts with their facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dcpipe.config import blocks
from dcpipe.config.presets import composing
from dcpipe.config.presets.composing import Family, Preset
from dcpipe.types import DataError

SET = {
    "facts": {"dataset": "Dots", "classes": 2},
    "params": {"images": {"source": "dots", "options": {"a": 1}, "size": 8}, "release": {"licence": "CC0"}},
    "comments": {"images.options": "Made of {classes} dots."},
}
PAPER = {
    "listed": {"source": "P, {table}", "published": "{accuracy}", "cost": "1 h"},
    "source": {"row": "P {table}, {dataset}, IPC {ipc}", "aside": "{name}"},
    "published": "{accuracy}",
    "unstated": {"this": "one", "that": "two"},
    "params": {
        "selection": {"method": "score", "options": {"alpha": 1.0, "beta": 2.0}},
        "synthesis": {"method": "none"},
    },
}
ROW = {"facts": {"table": "Table 1", "accuracy": "7 of {classes}"}, "params": {"selection": {"ipc": 3}}}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Composes a row from bases that a test gives, in two files."""

    def compose(row: dict[str, Any], **bases: dict[str, Any]) -> Preset:
        files = {
            "sets": Family.model_validate({"bases": {"dots": SET}}),
            "paper": Family.model_validate({"bases": {"paper": PAPER, **bases}, "rows": {"the-row": row}}),
        }
        monkeypatch.setattr(composing, "families", lambda: files)
        return composing.compose.__wrapped__("the-row")

    return compose


def test_bases_come_first_and_texts_have_their_facts(made: Any) -> None:
    preset = made({"base": ["dots", "paper"], **ROW})
    assert preset.listed == {"source": "P, Table 1", "published": "7 of 2", "cost": "1 h"}
    assert preset.notes == {
        "source": {"row": "P Table 1, Dots, IPC 3", "aside": "the-row"},
        "published": "7 of 2",
        "unstated": {"this": "one", "that": "two"},
    }
    assert preset.params == {
        "images": {"source": "dots", "options": {"a": 1}, "size": 8},
        "selection": {"method": "score", "options": {"alpha": 1.0, "beta": 2.0}, "ipc": 3},
        "synthesis": {"method": "none"},
        "release": {"name": "the-row", "licence": "CC0"},
    }
    assert preset.comments == {"images.options": "Made of 2 dots."}


def test_later_bases_change_earlier_ones_and_the_row_all_of_them(made: Any) -> None:
    change = {
        "published": {"own": "text"},
        "unstated": {"that": None, "more": "three"},
        "params": {"images": {"size": 16, "options": {"a": None, "b": 2}}},
        "comments": {"images.options": None},
    }
    preset = made({"base": ["dots", "paper", "change"], **ROW, "unstated": {"this": "else"}}, change=change)
    assert preset.params["images"] == {"source": "dots", "options": {"b": 2}, "size": 16}
    assert preset.notes["published"] == {"own": "text"}
    assert preset.notes["unstated"] == {"this": "else", "more": "three"}
    assert preset.comments == {}


def test_a_base_of_a_base_is_applied_before_it(made: Any) -> None:
    lower, upper = {"params": {"images": {"size": 1}}}, {"base": "lower", "params": {"images": {"minival": 0.5}}}
    preset = made({"base": ["dots", "paper", "upper"], **ROW}, lower=lower, upper=upper)
    assert preset.params["images"] == {"source": "dots", "options": {"a": 1}, "size": 1, "minival": 0.5}


def test_another_choice_discards_a_block(made: Any) -> None:
    row = {**ROW, "params": {"images": {"source": "folder"}, "selection": {"method": "random", "ipc": 3}}}
    preset = made({"base": ["dots", "paper"], **row})
    assert preset.params["images"] == {"source": "folder", "size": 8}
    assert preset.params["selection"] == {"method": "random", "ipc": 3}


def test_a_null_of_a_later_base_removes_what_an_earlier_one_has(made: Any) -> None:
    removes = {"unstated": None, "params": {"synthesis": {"method": None}}}
    preset = made({"base": ["dots", "paper", "removes"], **ROW}, removes=removes)
    assert "unstated" not in preset.notes and preset.params["synthesis"] == {}


def test_a_row_may_name_its_release(made: Any) -> None:
    row = {**ROW, "params": {"selection": {"ipc": 3}, "release": {"name": "other"}}}
    assert made({"base": ["dots", "paper"], **row}).params["release"] == {"name": "other", "licence": "CC0"}


def test_an_unknown_key_of_a_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"^mdc.yaml: unknown key 'rows.a.sauce'; valid keys are base, facts, listed"):
        blocks.checked(Family, {"rows": {"a": {"sauce": "x"}}}, "mdc.yaml")


def test_no_base_is_idle() -> None:
    used = set()
    for family in composing.families().values():
        for entry in [*family.bases.values(), *family.rows.values()]:
            used |= {entry.base} if isinstance(entry.base, str) else set(entry.base)
    assert used == {name for family in composing.families().values() for name in family.bases}
