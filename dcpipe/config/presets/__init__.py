"""Presets: rows of published tables, and small sets for a CPU, from which `dcpipe init NAME` writes params.yaml.

Each YAML file in this folder contains the rows of one paper. A row states where its values come from, which accuracy
was published, what a run costs, what the source leaves unstated, and the parameters in which it differs from its bases
(`composing`). `init` writes one flat file that contains the same statements as comments (`writing`).
"""

from __future__ import annotations

from typing import Any

from rich.table import Table

from dcpipe.config.presets.composing import Preset, compose, names
from dcpipe.config.presets.writing import write
from dcpipe.types import require
from dcpipe.types.names import one_of, similar

__all__ = ["Preset", "as_json", "listing", "names", "preset", "text"]

WIDTH = 100  # of a listing, in characters


def preset(name: str) -> Preset:
    """A preset by its name. Raises `DataError`, with the most similar names, if there is none."""
    known = names()
    close = similar(name, known)
    hint = f"did you mean {one_of(close)}? " if close else ""
    require(name in known, f"unknown preset {name!r}; {hint}`dcpipe init --list` shows all {len(known)}")
    return compose(name)


def text(name: str) -> str:
    """The text of the params.yaml that `init` writes. Raises `DataError` as `preset` does."""
    return write(preset(name))


def found(word: str = "") -> list[Preset]:
    """The presets that have `word` in their name, paper or set. Raises `DataError` if there is none."""
    shown = [one for one in map(compose, names()) if word.lower() in _searched(one)]
    require(bool(shown), f"no preset has {word!r} in its name, paper or set; `dcpipe init --list` shows all")
    return shown


def as_json(word: str = "") -> list[dict[str, Any]]:
    """What `listing` shows, for programs: `ipc` and `classes` are numbers, the rest is text."""
    return [
        {
            "name": one.name,
            "dataset": one.facts["dataset"],
            "classes": one.facts["classes"],
            "ipc": one.params["selection"]["ipc"],
            "source": one.listed["source"],
            "published": one.listed["published"],
            "cost": one.listed["cost"],
        }
        for one in found(word)
    ]


def listing(word: str = "") -> Table:
    """One line for each preset that has `word` in its name, paper or set. Raises `DataError` if there is none."""
    table = Table("preset", "source", "classes x ipc", "top-1 in %", "cost", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for one in found(word):
        size = f"{one.facts['classes']} x {one.params['selection']['ipc']}"
        table.add_row(one.name, one.listed["source"], size, one.listed["published"], one.listed["cost"])
    return table


def _searched(one: Preset) -> str:
    return " ".join([one.name, one.listed["source"], str(one.facts["dataset"])]).lower()
