"""Tables in the terminal of rows that a CSV file holds: columns by what they show of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

Row = Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """A column's name, the key of its values in a row, and the text that it shows of a row."""

    name: str
    key: str
    show: Callable[[Row], str]


def table_of(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """One line a row; the first column is at the left, numbers after it are at the right."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column.name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(column.show(row) for column in columns))
    return table


def text(name: str) -> Column:
    """A value as it is written."""
    return Column(name, name, lambda row: row[name])


def decimals(name: str, digits: int, key: str = "", form: str = "") -> Column:
    """A number with so many digits after the point, or nothing where there is none; `form` goes before them in the
    format, such as "+" or ",". The key is the column's name unless given."""
    key = key or name
    return Column(name, key, lambda row: f"{float(row[key]):{form}.{digits}f}" if row[key] else "")


def size(name: str, key: str) -> Column:
    """A number of bytes in kB and the like."""
    return Column(name, key, lambda row: human(int(row[key])))


def mean_and_std(name: str, mean: str = "accuracy", std: str = "std") -> Column:
    """A mean with its standard deviation, or nothing where there is none."""
    return Column(name, mean, lambda row: f"{float(row[mean]):.1f} ± {float(row[std]):.1f}" if row[mean] else "")


def unless_noted(column: Column, instead: str = "") -> Column:
    """The column, but `instead` in rows whose `note` says why there is no number."""
    return replace(column, show=lambda row: instead if row["note"] else column.show(row))


def human(size: int) -> str:
    """12345 -> `12.3 kB`; powers of 1000. Rich writes out `0 bytes`, which is too wide for a column of sizes."""
    return f"{size} B" if size < 1000 else decimal(size)


def when_tested(protocols: Iterable[str]) -> str:
    """When the students of these protocols were tested."""
    if any("best of" in protocol for protocol in protocols):
        return "last epoch, or the best of several tests where the protocol says so"
    return "last epoch"


def protocol_line(rows: Sequence[Row]) -> str:
    """The protocol that all rows share, or that there are several."""
    protocols = {row["protocol"] for row in rows}
    return protocols.pop() if len(protocols) == 1 else "protocols differ: see summary.csv"
