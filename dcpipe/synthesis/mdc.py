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

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from dcpipe.config.options import Options, takes_fields_of, validated
from dcpipe.config.values import OptionsOf, one_of
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.dc import dc
from dcpipe.synthesis.dm import dm
from dcpipe.synthesis.dream import dream
from dcpipe.synthesis.dsa import dsa
from dcpipe.synthesis.gradients.choices import Nested
from dcpipe.synthesis.idc import idc
from dcpipe.types import ImageSet

BASES: dict[str, Callable[..., ImageSet]] = {"idc": idc, "dream": dream, "dc": dc, "dsa": dsa, "dm": dm}
Base = Annotated[str, one_of(BASES)]


def _base_of(options: Mapping[str, Any]) -> tuple[str, Callable[..., ImageSet]]:
    return f"base {options['base']!r}", BASES[options["base"]]


BaseOptions = Annotated[dict[str, Any] | None, OptionsOf(_base_of, without=("subsets",), none_is_empty=True)]


def _together(*, base: str, options: Mapping[str, Any], **subsets: Any) -> None:
    """The base refuses subsets that it cannot have."""
    Options.of(BASES[base]).resolve({**options, "subsets": subsets}, f"base {base!r}")


@validated("synthesis method 'mdc'", _together)
@takes_fields_of(Nested)
def mdc(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    base: Base = "idc",
    options: BaseOptions = None,
    **subsets: Any,
) -> ImageSet:
    """The base method's images with subsets; `options` are those of the base, the others, fields of `Nested`, say which
    subsets: see `gradients.choices`.

    Raises `DataError` for an unknown base or option, an ipc below 2, and where the base does.
    """
    return BASES[base](start, context, seed, progress, **(options or {}), subsets=subsets)
