"""docs/formats.md, read: its sections, tables and the names in them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    [_, after] = PAGE.split(f"\n## {title}\n")
    return after.split("\n## ")[0]


def tables(title: str) -> list[list[list[str]]]:
    """The tables of a section, each a list of rows of cells, without the heading and the line below it."""
    found: list[list[list[str]]] = []
    for block in section(title).split("\n\n"):
        rows = [line.strip("|").split("|") for line in block.strip().splitlines() if line.startswith("|")]
        if rows:
            found.append([[cell.strip() for cell in row] for row in rows[2:]])
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def keys_of(table: list[list[str]]) -> set[str]:
    return {names(row[0])[0] for row in table}


def documented_meta(noun: str) -> tuple[set[str], set[str]]:
    """Keys that an artifact of this kind always has, and those it may have."""
    [cell] = [row[3] for row in tables("Artifacts")[1] if names(row[0]) == [noun]]
    always, _, sometimes = cell.partition(";")
    return set(names(always)), set(names(sometimes))
