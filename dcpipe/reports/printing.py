"""Print tables in full."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.measure import Measurement

_WIDEST = 1000


def print_table(table: RenderableType) -> None:
    """Print a table, or several, without cutting what is in its columns.

    Where a terminal is narrower, or where the output is no terminal and so counts as 80 characters wide, rich would
    shorten numbers to a few letters. So a table gets the width that it needs, and a narrow terminal breaks its lines.
    """
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    Console(width=max(console.width, needed)).print(table)
