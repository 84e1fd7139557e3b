"""Rows of students to means and deviations: the one summary of all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Row = dict[str, Any]


def spread(values: Sequence[float | str], mean: str = "accuracy", std: str = "std") -> Row:
    """Mean and standard deviation over n - 1 under these names, with three decimals; "" where no value is a number."""
    numbers = [value for value in values if not isinstance(value, str)]
    return {mean: round(fmean(numbers), 3), std: round(stdev(numbers), 3)} if numbers else {mean: "", std: ""}


def grouped(rows: Sequence[Row], by: Sequence[str]) -> list[list[Row]]:
    """Rows that agree in the columns `by`, in the order in which each group first comes."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return list(groups.values())


def summarise(
    rows: Sequence[Row], by: Sequence[str], means: Mapping[str, int | None] | None = None, same: Sequence[str] = ()
) -> list[Row]:
    """One row for each group of rows that agree in the columns `by`, with one row a seed in each.

    It has those columns, the `spread` of the accuracies in percent and how many `seeds` have one, the means of the
    columns `means`, each with so many decimals (None: a whole number), and the columns `same` of the group's first row.
    """
    return [
        {
            **{key: group[0][key] for key in by},
            **spread([row["accuracy"] for row in group]),
            "seeds": sum(row["accuracy"] != "" for row in group),
            **{key: round(fmean(row[key] for row in group), digits) for key, digits in (means or {}).items()},
            **{key: group[0][key] for key in same},
        }
        for group in grouped(rows, by)
    ]


def arranged(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows with these columns in this order; those that no row has are left out."""
    present = [name for name in names if any(name in row for row in rows)]
    return [{name: row[name] for name in present} for row in rows]


def rounded(rows: Sequence[Row]) -> list[Row]:
    """The rows with three decimals of accuracy, as results.csv has them."""
    return [{**row, "accuracy": round(row["accuracy"], 3) if row["accuracy"] != "" else ""} for row in rows]
