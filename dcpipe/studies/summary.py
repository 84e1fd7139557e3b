"""Summarise rows of students to means and standard deviations, for all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Row = dict[str, Any]


def spread(values: Sequence[float | str], mean: str = "accuracy", std: str = "std") -> Row:
    """Mean and standard deviation over n - 1 under these names, with three decimals; "" if no value is a number."""
    numbers = [value for value in values if not isinstance(value, str)]
    return {mean: round(fmean(numbers), 3), std: round(stdev(numbers), 3)} if numbers else {mean: "", std: ""}


def grouped(rows: Sequence[Row], by: Sequence[str]) -> list[list[Row]]:
    """Groups of rows that agree in the columns `by`, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return list(groups.values())


def summarise(
    rows: Sequence[Row], by: Sequence[str], means: Mapping[str, int | None] | None = None, same: Sequence[str] = ()
) -> list[Row]:
    """One row for each group of rows that agree in the columns `by`; a group has one row per seed.

    The row has these columns, the `spread` of the accuracies in percent, the number of `seeds` with an accuracy, the
    means of the columns `means`, each with the given number of decimals (None: a whole number), and the columns `same`
    of the first row of the group.
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


def curve_points(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """One row for each group of rows that agree in the columns `by` and each epoch that their students were tested
    after (the first one is 1): mean and standard deviation over seeds. Rows without a `curve` are left out."""
    points = [
        {**{key: row[key] for key in by}, "epoch": int(epoch) + 1, "accuracy": accuracy}
        for group in grouped(rows, by)
        for row in group
        for epoch, accuracy in row.get("curve", ())
    ]
    return summarise(points, (*by, "epoch"))


def arranged(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows with only these columns, in this order; columns that no row has are left out."""
    present = [name for name in names if any(name in row for row in rows)]
    return [{name: row[name] for name in present} for row in rows]


def rounded(rows: Sequence[Row]) -> list[Row]:
    """The rows with accuracies rounded to three decimals, as in results.csv."""
    return [{**row, "accuracy": round(row["accuracy"], 3) if row["accuracy"] != "" else ""} for row in rows]
