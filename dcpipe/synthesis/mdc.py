"""MDC: one condensed set that is good at every smaller size (He, Xiao, Zhou & Tsang, ICLR 2024).

On top of a base method, the loss of one smaller set is added to the loss of the whole set. This smaller set is a prefix
of the whole one, the most learnable subset. It is chosen anew every `period` outer loops, by how fast its features
approach those of the real images. Images of smaller subsets that were already trained are frozen
(`gradients/subsets.py` has the rules). The gradients of the subset come from passes that the base method makes anyway.
The result can be loaded at any size: `dcpipe.load(..., ipc=3)`.

`metric` is the measure by which a subset is chosen (Table 5). `feature` distances cost next to nothing, `gradient`
distances cost another pass in each step that measures, and `accuracy` costs N - 1 trainings of `epochs` epochs per
measurement, which are evaluated on `judged` real images per class (`gradients/accuracies.py`). The chosen subsets, the
frozen images and the distances are passed to `progress.record`.

On the base `mtt` the construction is ours (`trajectories/nested.py`); an iteration is an outer loop there.

`freeze` and `begin` (whether subsets start in loop 0 or 1) follow the paper by default and the official code with
`code`. If images are grids, a subset consists of the first stored images (`by: images`), or of the first cells (`by:
cells`) as in the published files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from dcpipe.config.bases import BASE
from dcpipe.config.options import Options, takes_fields_of, validated
from dcpipe.config.values import OptionsOf, one_of
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.dc import dc
from dcpipe.synthesis.dm import dm
from dcpipe.synthesis.dream import dream
from dcpipe.synthesis.dsa import dsa
from dcpipe.synthesis.gradients.choices import Nested
from dcpipe.synthesis.idc import idc
from dcpipe.synthesis.mtt import mtt
from dcpipe.types import ImageSet

Method = Callable[..., ImageSet]
# The methods of `gradients/`, which match gradients or features in outer loops.
MATCHING: dict[str, Method] = {"idc": idc, "dream": dream, "dc": dc, "dsa": dsa, "dm": dm}
BASES: dict[str, Method] = {**MATCHING, "mtt": mtt}
Base = Annotated[str, one_of(BASES)]


def _base_of(options: Mapping[str, Any]) -> tuple[str, Callable[..., ImageSet]]:
    return f"base {options['base']!r}", BASES[options["base"]]


BaseOptions = Annotated[dict[str, Any] | None, OptionsOf(_base_of, without=("subsets",), none_is_empty=True)]


def _together(*, base: str, options: Mapping[str, Any], **subsets: Any) -> None:
    """Raises `DataError` for subset options that the base method does not support."""
    Options.of(BASES[base]).resolve({**options, "subsets": subsets}, f"base {base!r}")


@validated("synthesis method 'mdc'", _together)
@takes_fields_of(Nested)
def mdc(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    base: Base = BASE,
    options: BaseOptions = None,
    **subsets: Any,
) -> ImageSet:
    """The images of the base method with subsets. `options` are those of the base method; all others are fields of
    `Nested` and describe the subsets: see `gradients.choices`.

    Raises `DataError` for an unknown base or option, an ipc below 2, and where the base does.
    """
    return BASES[base](start, context, seed, progress, **(options or {}), subsets=subsets)
