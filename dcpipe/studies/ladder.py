"""`ladder`: add design choices one by one and measure the gain of each (EDC, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from statistics import fmean
from typing import ClassVar

from dcpipe.studies.summary import Row, grouped
from dcpipe.studies.syntheses import SynthesesStudy
from dcpipe.studies.variants import Variant


class LadderStudy(SynthesesStudy):
    """As `syntheses`, but each variant is applied on top of those above it."""

    title: ClassVar[str] = "add EDC's design choices one by one (EDC, Fig. 1)"

    @cached_property
    def chains(self) -> dict[str, list[Variant]]:
        rungs = self.block.variants
        return {name: list(rungs.values())[: place + 1] for place, name in enumerate(rungs)}

    def summary(self, rows: Sequence[Row]) -> list[Row]:
        """Adds `gain`, in points over the previous variant at the same ipc; "" for the first one."""
        before: dict[int, float] = {}
        summary = super().summary(rows)
        for row, group in zip(summary, grouped(rows, ("variant", "ipc")), strict=True):
            mean = fmean(student["accuracy"] for student in group)
            row["gain"] = round(mean - before[row["ipc"]], 3) if row["ipc"] in before else ""
            before[row["ipc"]] = mean
        return summary
