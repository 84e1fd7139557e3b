"""Paired differences: how much better an entry is than a reference whose students had the same seeds.

Idea. Students of one seed start from the same weights and see their batches in the same order, whatever they are
trained on. What a seed does to both sides cancels in the difference of their accuracies, so the mean of the differences
is known better than the two means are.

Formula. With n seeds that both sides have, differences d_k, their mean m and their deviation s over n - 1,

    se = s / sqrt n                 m ± t se,    t = the 0.975 quantile of Student's t distribution with n - 1 degrees

is the interval of the paired t test: for differences that are normally distributed, it contains the true mean in 95 of
100 studies. t is 4.30 for 3 seeds, 2.78 for 5 and 2.26 for 10, so few seeds give a wide interval and not a wrong one.

Source: Student, "The probable error of a mean", Biometrika 1908. Two things to keep in mind:

* The interval is for one difference. Of twenty entries that are no better than the reference, one is outside of it by
  chance.
* It covers what changes with the seed and nothing else. A deterministic selector keeps its images, so the interval is
  about these images; `random` draws other images for each seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from dcpipe.studies.summary import Row, grouped

COVERAGE = 0.95
FEWEST = 3  # pairs for which an interval is given
DIFFERENCE = ("difference", "difference_se", "difference_ci")


def differences(rows: Sequence[Row], by: Sequence[str], entry: str, reference: str) -> list[Row]:
    """One row for each group of rows that agree in the columns `by`, in order of first appearance: the comparison of
    the group with the one that differs in the column `entry` alone, where it has the value `reference`.

    Accuracies in percent are paired by the column `seed`; a seed that has no accuracy ("") on one side is left out. In
    points, with three decimals: `difference`, the mean; `difference_se`, its standard error; and `difference_ci`, half
    the width of its 95 % interval. All are "" for the reference itself and without pairs, the last two also with fewer
    than three pairs.
    """
    groups = grouped(rows, by)

    def place(row: Row) -> tuple[Any, ...]:
        return tuple(row[key] for key in by if key != entry)

    known = {place(group[0]): accuracies(group) for group in groups if group[0][entry] == reference}
    compared = []
    for group in groups:
        own, other = accuracies(group), known.get(place(group[0]), {})
        itself = group[0][entry] == reference
        compared.append(interval([] if itself else [own[seed] - other[seed] for seed in own if seed in other]))
    return compared


def accuracies(rows: Sequence[Row]) -> dict[int, float]:
    """The accuracy of each seed that has one."""
    return {row["seed"]: row["accuracy"] for row in rows if row["accuracy"] != ""}


def interval(values: Sequence[float]) -> Row:
    """The mean of some differences, its standard error and half the width of its interval, as in `differences`."""
    mean = round(fmean(values), 3) if values else ""
    if len(values) < FEWEST:
        return dict(zip(DIFFERENCE, (mean, "", ""), strict=True))
    from scipy.special import stdtrit

    error = stdev(values) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, (1 + COVERAGE) / 2)) * error
    return dict(zip(DIFFERENCE, (mean, round(error, 3), round(half, 3)), strict=True))
