"""Hours of every stage for several numbers of devices, the bottleneck, and what will not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dcpipe.planning import lineup, recovery, stages
from dcpipe.planning.costs import Costs
from dcpipe.planning.machine import Machine, peaks, unfit
from dcpipe.planning.stages import Setting
from dcpipe.planning.work import Stage
from dcpipe.types import require


@dataclass(frozen=True)
class Forecast:
    """A plan: stages in their order, costs, numbers of devices, and what the machine has."""

    setting: Setting
    stages: tuple[Stage, ...]
    costs: Costs
    devices: tuple[int, ...]
    machine: Machine

    def hours(self, stage: Stage, devices: int) -> float:
        """Hours of a stage; work whose cost nobody knows counts 0 (see `unknown`)."""
        return sum(self.costs.seconds(work.on(devices)) or 0.0 for work in stage.work) / 3600

    def total(self, devices: int) -> float:
        """Hours of all stages, which run one after another."""
        return sum(self.hours(stage, devices) for stage in self.stages)

    def bottleneck(self, devices: int) -> Stage:
        """The stage that takes longest."""
        return max(self.stages, key=lambda stage: self.hours(stage, devices))

    @cached_property
    def peaks(self) -> list[int]:
        """Bytes on disk at the peak of each stage."""
        return peaks(self.stages)

    @cached_property
    def unfit(self) -> list[str]:
        """A sentence for each thing that will not fit."""
        return list(unfit(self.stages, self.machine))

    @cached_property
    def unknown(self) -> list[str]:
        """What the hours leave out."""
        uncosted = [
            f"{stage.name}: {work.kind} of {work.name or 'images'}"
            for stage in self.stages
            for work in stage.work
            if self.costs.seconds(work) is None
        ]
        return list(dict.fromkeys([*uncosted, *(f"{s.name}: {s.omitted}" for s in self.stages if s.omitted)]))


def stages_of(setting: Setting) -> tuple[Stage, ...]:
    """All stages of params.yaml, in the order in which they run."""
    return (
        stages.images(setting),
        *stages.teachers(setting),
        stages.features(setting),
        stages.select(setting),
        recovery.synthesis(setting),
        stages.softlabels(setting),
        stages.compression(setting),
        lineup.evaluation(setting),
        stages.release(setting),
    )


def forecast(
    setting: Setting, found: tuple[Stage, ...], costs: Costs, devices: Sequence[int], machine: Machine
) -> Forecast:
    """The forecast of some stages. Raises `DataError` for a number of devices below 1."""
    for n in devices:
        require(n >= 1, f"--devices has {n}; give numbers of 1 or more, as in --devices 1,8")
    return Forecast(setting, found, costs, tuple(dict.fromkeys(devices)), machine)
