"""Presets: one `params.yaml` a file. The comments on top name the source, the published accuracy, the cost, and what
the source leaves unstated; `dcpipe init --list` reads them there, so they are said once."""

from __future__ import annotations

import re
from pathlib import Path

from rich.table import Table

from dcpipe.types import require

_FOLDER = Path(__file__).parent
_KEY = re.compile(r"# (source|published|cost|unstated): (.+)")
_MORE = re.compile(r"#\s{2,}(.+)")


def names() -> list[str]:
    """All presets: the default first, the others by name."""
    return sorted((path.stem for path in _FOLDER.glob("*.yaml")), key=lambda name: (name != "digits", _numbered(name)))


def text(name: str) -> str:
    """The file's content; raises `DataError` listing the presets when there is no such one."""
    require(name in names(), f"unknown preset {name!r}; choose one of {', '.join(names())}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def header(name: str) -> dict[str, str]:
    """What the leading comments say, by key; a comment indented further goes on with the key before it."""
    found: dict[str, str] = {}
    key = None
    for line in text(name).splitlines():
        if not line.startswith("#"):
            break
        if start := _KEY.fullmatch(line):
            key, found[start[1]] = start[1], start[2]
        elif key is not None and (more := _MORE.fullmatch(line)):
            found[key] += " " + more[1]
        else:
            key = None
    return found


def listing() -> Table:
    """A table of all presets for the terminal."""
    table = Table("preset", "published accuracy, top-1 in percent", "cost", show_lines=True)
    for name in names():
        told = header(name)
        # The first clause is the price; how it was reckoned is in the file.
        table.add_row(name, told["published"], told["cost"].split(";")[0])
    return table


def _numbered(name: str) -> list[tuple[int, str]]:
    """Sort key that puts ipc10 after ipc1 and before ipc50."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
