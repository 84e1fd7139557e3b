"""Tables in the terminal, made from the rows of a CSV file: each column is defined by what it shows of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

Row = Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """The name of a column, the key of its values in a row, and a function from a row to the text that is shown."""

    name: str
    key: str
    show: Callable[[Row], str]


def table_of(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """One line per row. The first column is aligned left, the others are aligned right."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column.name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(column.show(row) for column in columns))
    return table


def text(name: str) -> Column:
    """A column of values as they are in the file."""
    return Column(name, name, lambda row: row[name])


def decimals(name: str, digits: int, key: str = "", form: str = "") -> Column:
    """A column of numbers with `digits` decimals, empty if a row has no number. `form` comes before the precision in
    the format, for example "+" or ",". The key defaults to the name."""
    key = key or name
    return Column(name, key, lambda row: f"{float(row[key]):{form}.{digits}f}" if row[key] else "")


def size(name: str, key: str) -> Column:
    """A column of byte counts, in kB, MB and so on."""
    return Column(name, key, lambda row: human(int(row[key])))


def mean_and_std(name: str, mean: str = "accuracy", std: str = "std") -> Column:
    """A column of means with their standard deviations, empty if a row has none."""
    return Column(name, mean, lambda row: f"{float(row[mean]):.1f} ± {float(row[std]):.1f}" if row[mean] else "")


def unless_noted(column: Column, instead: str = "") -> Column:
    """The column, with the text `instead` in rows that have a `note` why there is no number."""
    return replace(column, show=lambda row: instead if row["note"] else column.show(row))


def human(size: int) -> str:
    """12345 -> `12.3 kB`, in powers of 1000. Rich writes `0 bytes`, which is too wide for a column of sizes."""
    return f"{size} B" if size < 1000 else decimal(size)


def when_tested(protocols: Iterable[str]) -> str:
    """When students are tested under these protocols, in words."""
    if any("best of" in protocol for protocol in protocols):
        return "last epoch, or the best of several tests where the protocol says so"
    return "last epoch"


def protocol_line(rows: Sequence[Row]) -> str:
    """The protocol that all rows share, or a text that says that there are several."""
    protocols = {row["protocol"] for row in rows}
    return protocols.pop() if len(protocols) == 1 else "protocols differ: see summary.csv"
