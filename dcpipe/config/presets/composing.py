"""The files of this folder, and a preset composed of its row and that row's bases.

A file holds `bases` and `rows` by name; both are entries. The bases of an entry are applied first, from left to right,
each with its own bases, and then the entry itself: mappings are merged key by key, null removes a key, and in `params`
an entry that names the source, method, codec or protocol of a block starts that block anew (`dcpipe.config.changes`).
A base may stand in another file.

In texts, and in facts themselves, {word} stands for a fact: one of `facts`, or the preset's `name` or `ipc`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from dcpipe.config.blocks import Block, checked, read
from dcpipe.config.changes import changed, merged

_FOLDER = Path(__file__).parent

# One text, or a clause for each topic; null removes the clause of a base.
Note = str | dict[str, str | None] | None


class Entry(Block):
    """A base or row as it stands in a file.

    `facts` fill texts; every row has `dataset` and `classes`. `listed` are the columns `source`, `published` and `cost`
    of `dcpipe init --list`. `params` are blocks of params.yaml, or some of their keys. `comments` are written above a
    key of params, which is named by its path, as in `images.options`.
    """

    base: str | list[str] = Field(default_factory=list)
    facts: dict[str, str | int | None] = Field(default_factory=dict)
    listed: dict[str, str] = Field(default_factory=dict)
    source: Note = None
    published: Note = None
    cost: Note = None
    unstated: Note = None
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)
    comments: dict[str, str | None] = Field(default_factory=dict)


class Family(Block):
    """A file."""

    bases: dict[str, Entry] = Field(default_factory=dict)
    rows: dict[str, Entry] = Field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A row with its bases. Texts are filled in; `params` is the content of params.yaml. `notes` are `source`,
    `published`, `cost` and, if there is any, `unstated`: each is one text, or a clause for each topic."""

    name: str
    facts: Mapping[str, str | int]
    listed: Mapping[str, str]
    notes: Mapping[str, str | Mapping[str, str]]
    params: Mapping[str, Any]
    comments: Mapping[str, str]


@cache
def families() -> dict[str, Family]:
    """Every file by its name."""
    paths = sorted(_FOLDER.glob("*.yaml"))
    return {path.stem: checked(Family, read(path, "bases and rows"), str(path)) for path in paths}


@cache
def names() -> tuple[str, ...]:
    """All presets: the default first, the others by name, ipc10 after ipc1 and before ipc50."""
    rows = (name for family in families().values() for name in family.rows)
    return tuple(sorted(rows, key=lambda name: (name != "digits", _numbered(name))))


@cache
def compose(name: str) -> Preset:
    """The preset of a row's name."""
    bases = {key: entry for family in families().values() for key, entry in family.bases.items()}
    row = next(family.rows[name] for family in families().values() if name in family.rows)
    whole: dict[str, Any] = {"facts": {}, "listed": {}, "comments": {}, "params": {"release": {"name": name}}}
    for entry in _stacked(row, bases):
        # Only keys that the entry has: the None of another one would remove what a base says.
        stated = {key: getattr(entry, key) for key in entry.model_fields_set - {"base", "params"}}
        whole = {**merged(whole, stated), "params": changed(whole["params"], entry.params)}
    given = {**whole["facts"], "name": name, "ipc": whole["params"]["selection"]["ipc"]}
    facts = _filled(given, given)
    notes = {key: whole[key] for key in ("source", "published", "cost", "unstated") if key in whole}
    listed, notes, comments = (_filled(texts, facts) for texts in (whole["listed"], notes, whole["comments"]))
    return Preset(name, facts, listed, notes, whole["params"], comments)


def _stacked(entry: Entry, bases: Mapping[str, Entry]) -> list[Entry]:
    """Everything that an entry is made of, in the order it is applied: its bases with theirs, then the entry."""
    below = [entry.base] if isinstance(entry.base, str) else entry.base
    return [*(one for base in below for one in _stacked(bases[base], bases)), entry]


def _filled(texts: Any, facts: Mapping[str, Any]) -> Any:
    """A text, or all texts of a mapping, with their facts filled in; numbers stay."""
    if isinstance(texts, Mapping):
        return {key: _filled(text, facts) for key, text in texts.items()}
    return texts.format_map(facts) if isinstance(texts, str) else texts


def _numbered(name: str) -> list[tuple[int, str]]:
    """A sort key of text with numbers in it."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
