"""What the tests of planning share: settings of presets, with the counts of their image sets, and plain costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dcpipe.config import params, presets
from dcpipe.planning.counts import Counts
from dcpipe.planning.figures import Figures
from dcpipe.planning.stages import Setting
from dcpipe.planning.work import Work

# ImageNet-1K as `imagenet-1k-*` splits it: 1 % of every class is minival.
IMAGENET = Counts(1_268_167, 13_000, 50_000, 1000, 108_000, "a test")
DIGITS = Counts(1294, 144, 359, 10, 268, "a test")
# As measured once; tests of other modules need no network.
RESNET = Figures(3_628_146_688, 46_830_000, 100_000_000, 3_211_264, 512, 4000)
SMALL = Figures(1_000_000, 10_000, 100_000, 4096, 64, 40)


def look(name: str, n_classes: int, size: int) -> Figures:
    """Figures without building a network."""
    return RESNET if name == "resnet18" else SMALL


def setting(preset: str, counts: Counts, **blocks: Mapping[str, Any]) -> Setting:
    """A preset with keys of blocks changed."""
    content = yaml.safe_load(presets.text(preset))
    changed = {name: {**content[name], **block} for name, block in blocks.items()}
    return Setting(params.parse({**content, **changed}), counts, look)


def of_kind(work: Sequence[Work], kind: str) -> list[Work]:
    return [one for one in work if one.kind == kind]


@dataclass(frozen=True)
class Flat:
    """Every unit of work takes so many seconds, but reading none; packing is unknown if `packs` is false."""

    each: float = 1.0
    packs: bool = True
    title: str = "a test's device"
    sources: tuple[str, ...] = ("made up",)

    def seconds(self, work: Work) -> float | None:
        if work.kind == "pack" and not self.packs:
            return None
        return 0.0 if work.kind == "read" else work.amount * self.each
