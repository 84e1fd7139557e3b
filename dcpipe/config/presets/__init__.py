"""Presets: rows of published tables, and small sets for a CPU, from which `dcpipe init NAME` writes params.yaml.

Each YAML file in this folder contains the rows of one paper. A row states where its values come from, which accuracy
was published, what a run costs, what the source leaves unstated, and the parameters in which it differs from its bases
(`composing`). `init` writes one flat file that contains the same statements as comments (`writing`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from rich.table import Table

from dcpipe.config.presets.composing import Preset, compose, names
from dcpipe.config.presets.writing import write
from dcpipe.types import require

__all__ = ["Preset", "listing", "names", "preset", "text"]

WIDTH = 100  # of a listing, in characters


def preset(name: str) -> Preset:
    """A preset by its name. Raises `DataError`, with the most similar names, if there is none."""
    known = names()
    close = [other for other in known if name and name in other] or difflib.get_close_matches(name, known)
    hint = f"did you mean {_one_of(close[:5])}? " if close else ""
    require(name in known, f"unknown preset {name!r}; {hint}`dcpipe init --list` shows all {len(known)}")
    return compose(name)


def text(name: str) -> str:
    """The text of the params.yaml that `init` writes. Raises `DataError` as `preset` does."""
    return write(preset(name))


def listing(word: str = "") -> Table:
    """One line for each preset that has `word` in its name, paper or set. Raises `DataError` if there is none."""
    shown = [one for one in map(compose, names()) if word.lower() in _searched(one)]
    require(bool(shown), f"no preset has {word!r} in its name, paper or set; `dcpipe init --list` shows all")
    table = Table("preset", "source", "classes x ipc", "top-1 in %", "cost", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for one in shown:
        size = f"{one.facts['classes']} x {one.params['selection']['ipc']}"
        table.add_row(one.name, one.listed["source"], size, one.listed["published"], one.listed["cost"])
    return table


def _searched(one: Preset) -> str:
    return " ".join([one.name, one.listed["source"], str(one.facts["dataset"])]).lower()


def _one_of(found: Sequence[str]) -> str:
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
