"""`ladder`: design choices turned on one by one, so that each shows what it is worth (EDC, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar

from dcpipe.studies.summary import Row, grouped
from dcpipe.studies.syntheses import SynthesesStudy
from dcpipe.studies.variants import Variant


class LadderStudy(SynthesesStudy):
    """As `syntheses`, but each variant adds to those above it."""

    title: ClassVar[str] = "add EDC's design choices one by one (EDC, Fig. 1)"

    def chain(self, name: str) -> list[Variant]:
        names = list(self.block.variants)
        return [self.block.variants[rung] for rung in names[: names.index(name) + 1]]

    def summary(self, rows: Sequence[Row]) -> list[Row]:
        """Also the `gain` in points over the rung below it at the same ipc, "" for the first."""
        before: dict[int, float] = {}
        summary = super().summary(rows)
        for row, group in zip(summary, grouped(rows, ("variant", "ipc")), strict=True):
            mean = fmean(student["accuracy"] for student in group)
            row["gain"] = round(mean - before[row["ipc"]], 3) if row["ipc"] in before else ""
            before[row["ipc"]] = mean
        return summary
