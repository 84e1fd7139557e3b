"""Tables are printed in full, whatever the width of the terminal."""

from __future__ import annotations

import pytest
from rich.console import Group
from rich.table import Table

from dcpipe.reports.printing import print_table

NAMES = [f"a column with a long name {number}" for number in range(8)]


def table() -> Table:
    made = Table(*NAMES, title="a title")
    made.add_row(*(f"{number}.25 ± 0.5" for number in range(8)))
    for column in made.columns:
        column.no_wrap = True
    return made


@pytest.mark.parametrize("columns", ["20", "80", "400"])
@pytest.mark.parametrize("several", [False, True])
def test_nothing_is_cut(
    columns: str, several: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table(Group(table(), table()) if several else table())
    text = capsys.readouterr().out
    assert "…" not in text
    assert all(text.count(name) == 1 + several for name in NAMES)
    assert text.count("7.25 ± 0.5") == 1 + several
