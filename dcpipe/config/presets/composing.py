"""Read the files in this folder, and compose a preset from its row and the bases of the row.

A file contains `bases` and `rows` by name; both are entries. The bases of an entry are applied first, from left to
right, each after its own bases, and then the entry itself. Mappings are merged key by key, and null removes a key. In
`params`, an entry that names the source, method, codec or protocol of a block discards the other keys of the block
(`dcpipe.config.changes`). A base may be in another file.

In texts, and in facts themselves, {word} is replaced by a fact: one of `facts`, or the `name` or `ipc` of the preset.
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

# One text, or one clause per topic; null removes the clause of a base.
Note = str | dict[str, str | None] | None


class Entry(Block):
    """A base or row as it is written in a file.

    `facts` are inserted into texts; every row has `dataset` and `classes`. `listed` are the columns `source`,
    `published` and `cost` of `dcpipe init --list`. `params` are blocks of params.yaml, or some of their keys.
    `comments` are written above the key of params.yaml with this path, such as `images.options`.
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
    """The content of a file."""

    bases: dict[str, Entry] = Field(default_factory=dict)
    rows: dict[str, Entry] = Field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A row with its bases applied and facts inserted. `params` is the content of params.yaml. `notes` are `source`,
    `published`, `cost` and, if there is one, `unstated`: each is one text, or one clause per topic."""

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
    """The names of all presets: the default first, then by name with numbers in numerical order."""
    rows = (name for family in families().values() for name in family.rows)
    return tuple(sorted(rows, key=lambda name: (name != "digits", _numbered(name))))


@cache
def compose(name: str) -> Preset:
    """The preset of a row's name."""
    bases = {key: entry for family in families().values() for key, entry in family.bases.items()}
    row = next(family.rows[name] for family in families().values() if name in family.rows)
    whole: dict[str, Any] = {"facts": {}, "listed": {}, "comments": {}, "params": {"release": {"name": name}}}
    for entry in _stacked(row, bases):
        # Only keys that the entry has, because the None of a missing key would remove the value of a base.
        stated = {key: getattr(entry, key) for key in entry.model_fields_set - {"base", "params"}}
        whole = {**merged(whole, stated), "params": changed(whole["params"], entry.params)}
    given = {**whole["facts"], "name": name, "ipc": whole["params"]["selection"]["ipc"]}
    facts = _filled(given, given)
    notes = {key: whole[key] for key in ("source", "published", "cost", "unstated") if key in whole}
    listed, notes, comments = (_filled(texts, facts) for texts in (whole["listed"], notes, whole["comments"]))
    return Preset(name, facts, listed, notes, whole["params"], comments)


def _stacked(entry: Entry, bases: Mapping[str, Entry]) -> list[Entry]:
    """An entry and all its bases, in the order in which they are applied: the bases with their own bases, then the
    entry."""
    below = [entry.base] if isinstance(entry.base, str) else entry.base
    return [*(one for base in below for one in _stacked(bases[base], bases)), entry]


def _filled(texts: Any, facts: Mapping[str, Any]) -> Any:
    """A text, or a mapping of texts, with facts inserted; numbers are returned unchanged."""
    if isinstance(texts, Mapping):
        return {key: _filled(text, facts) for key, text in texts.items()}
    return texts.format_map(facts) if isinstance(texts, str) else texts


def _numbered(name: str) -> list[tuple[int, str]]:
    """A sort key for names, in which numbers are compared as numbers."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
