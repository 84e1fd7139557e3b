"""MDC: one condensed set that is good at every smaller size (He, Xiao, Zhou & Tsang, ICLR 2024).

On top of a base method, the loss of the whole set gets that of one of its beginnings, the most learnable subset, chosen
anew every `period` outer loops by how fast its features approach those of the real images; images of smaller subsets
that were taught before are frozen (`gradients/subsets.py` has the rules). The subset's gradients come from the passes
that the base makes anyway. Load the result at any size: `dcpipe.load(..., ipc=3)`.

`metric` says what a subset is chosen by (Table 5): `feature` distances cost next to nothing, `gradient` ones another
pass in each step that measures, and `accuracy` N - 1 trainings of `epochs` epochs a measurement, judged by `judged`
real images of each class (`gradients/accuracies.py`). What was chosen and frozen is handed to `progress.record`.

`freeze` and `begin` (of subsets: loop 0 or 1) are the paper's by default, `code` gives the official code's. With grids
a subset is its first stored images (`by: images`); the published files' are the first cells (`by: cells`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.dc import dc
from dcpipe.synthesis.dm import dm
from dcpipe.synthesis.dream import dream
from dcpipe.synthesis.dsa import dsa
from dcpipe.synthesis.gradients.subsets import Begin, Freeze, Metric, Rate
from dcpipe.synthesis.idc import idc
from dcpipe.types import By, ImageSet, require

BASES: dict[str, Callable[..., ImageSet]] = {"idc": idc, "dream": dream, "dc": dc, "dsa": dsa, "dm": dm}


def mdc(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    base: str = "idc",
    options: dict[str, Any] | None = None,
    period: int = 100,
    weight: float = 1.0,
    metric: Metric = "feature",
    epochs: int = 1000,
    judged: int = 100,
    rate: Rate = "absolute",
    begin: Begin = "paper",
    freeze: Freeze = "paper",
    class_wise: bool = False,
    by: By = "images",
) -> ImageSet:
    """The base method's images with subsets; `options` are those of the base, `weight` the subset loss's.

    Raises `DataError` for an unknown base or option, an ipc below 2, and where the base does.
    """
    require(base in BASES, f"mdc: unknown base {base!r}; choose one of {', '.join(BASES)}")
    given, parameters = options or {}, inspect.signature(BASES[base]).parameters.values()
    legal = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "subsets"]
    for name in given:
        require(name in legal, f"mdc: base {base!r} has no option {name!r}; legal ones are {', '.join(legal)}")
    rules = {"period": period, "rate": rate, "begin": begin, "freeze": freeze, "class_wise": class_wise}
    subsets = {**rules, "weight": weight, "metric": metric, "by": by, "epochs": epochs, "judged": judged}
    return BASES[base](start, context, seed, progress, **given, subsets=subsets)
