"""The page of the papers' tables: none is missing, each has a command or says why not, and every study is there.

That the commands can be typed is the matter of `test_commands.py`, and that links lead somewhere of `test_coverage.py`.
"""

from __future__ import annotations

import re

import pytest
from pages import ROOT, inline_commands

from dcpipe.studies import STUDIES

PAGE = ROOT / "docs/papers.md"
# What the papers have: tables and figures, counted in their texts.
ITEMS = {
    "SCORE": {"Table": 5, "Fig.": 9, "suppl. Table": 4, "suppl. Fig.": 1},
    "EDC": {"Table": 21, "Fig.": 11},
    "MDC": {"Table": 12, "Fig.": 15},
}


def rows_of(paper: str) -> list[list[str]]:
    """The cells of the rows of a paper's section."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {paper}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def numbers(label: str) -> tuple[str, list[int]]:
    """The kind and the numbers that the first cell of a row names: `Figs. 5, 7-9` are four figures."""
    match = re.fullmatch(r"(.*?) (\d[\d, -]*)", label)
    assert match, label
    ranges = [[int(number) for number in part.split("-")] for part in match[2].split(",")]
    found = [number for part in ranges for number in range(part[0], part[-1] + 1)]
    return match[1].replace("Figs.", "Fig.").replace("Tables", "Table"), found


@pytest.mark.parametrize("paper", ITEMS)
def test_every_table_and_figure_is_there(paper: str) -> None:
    there: dict[str, set[int]] = {}
    for cells in rows_of(paper):
        kind, found = numbers(cells[0])
        there.setdefault(kind, set()).update(found)
    assert there == {kind: {*range(1, count + 1)} for kind, count in ITEMS[paper].items()}


@pytest.mark.parametrize("paper", ITEMS)
def test_a_row_has_a_command_or_says_that_there_is_none(paper: str) -> None:
    for label, what, command, *_ in rows_of(paper):
        assert what and ("`" in command or "no command" in command or re.match("as Tables? |as Fig", command)), label


@pytest.mark.parametrize("paper", ITEMS)
def test_a_row_says_what_was_run_here(paper: str) -> None:
    """Numbers, the row that has them, or that it was not run."""
    for label, _, _, here in rows_of(paper):
        assert here, label
        assert re.search(r"not run|nothing to run|computed|digits|^as |\d\.\d", here), (label, here)


def test_every_study_is_of_use_to_a_paper() -> None:
    text = "\n".join(inline_commands(PAGE))
    assert {name for name in STUDIES if f"dcpipe study {name}" not in text} == set()
