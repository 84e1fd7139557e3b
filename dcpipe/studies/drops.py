"""The drop: the accuracy that a set of images loses when its labels are compressed (SCORE, Sec. 6.3, Fig. 5).

Formula. Let a(k) be the accuracy in percent of the student of seed k that is trained on a set with uncompressed labels,
and a(c, k) that of the student of the same seed with labels compressed by c. The drop is d(c, k) = a(k) - a(c, k), in
points; it is negative if compression helped. Drops are paired by seed: both sides have the same images, initial weights
and order of batches. So the deviation of d comes from compression alone, while the deviation of a also contains the
effects of different images and initial weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text, unless_noted
from dcpipe.studies.codecs import UNCOMPRESSED
from dcpipe.studies.summary import Row, grouped, spread

PACKING = ("codec", "ratio")  # columns of `Packing.place`
DROP = ("drop", "drop_std")
_DROP = mean_and_std("drop", *DROP)
# The columns that say how labels were packed and what it cost, for tables in the terminal.
SHOWN = (
    text("codec"),
    text("ratio"),
    unless_noted(size("labels", "label_bytes"), "not reached"),
    unless_noted(decimals("per image", 1, "bytes_per_image", ",")),
    size("in fp16", "fp16_label_bytes"),
    mean_and_std("accuracy"),
    Column("drop", "drop", lambda row: "" if row["codec"] == UNCOMPRESSED else _DROP.show(row)),
)


def drops(rows: Sequence[Row], sets: Sequence[str]) -> list[Row]:
    """One row for each group of rows that agree in the columns `sets`, which identify a set of images, in `codec` and
    in `ratio`, in order of first appearance: `drop` and `drop_std`, mean and standard deviation (n - 1) over seeds.

    `rows` have one accuracy per seed. Both values are "" for a group without accuracies.
    """

    def place(row: Row) -> tuple[Any, ...]:
        return (*(row[key] for key in sets), row["seed"])

    before = {place(row): row["accuracy"] for row in rows if row["codec"] == UNCOMPRESSED}
    return [
        spread(["" if row["accuracy"] == "" else before[place(row)] - row["accuracy"] for row in group], *DROP)
        for group in grouped(rows, (*sets, *PACKING))
    ]
