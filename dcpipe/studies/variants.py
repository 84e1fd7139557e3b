"""Variants of a workspace: the changes that a study makes to params.yaml, block by block.

A variant sets some keys of `selection`, `synthesis`, `softlabels`, `compression` and `evaluation`; all other keys are
those of params.yaml. In the study `syntheses`, variants are independent of each other. In `ladder`, each is applied on
top of those above it, as EDC measures its design choices (its Fig. 1 and Tables 3 to 5). In `sizes`, each is scored at
every size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from dcpipe.config import changes, params
from dcpipe.config.blocks import Block
from dcpipe.config.params import NOT_OF_STUDIES, Params
from dcpipe.types import require

Changes = dict[str, Any]
BLOCKS = ("selection", "synthesis", "softlabels", "compression", "evaluation")
# Keys that the study sets for all its variants, so that a variant must not set them.
SHARED = {"selection": ("ipc",), "evaluation": NOT_OF_STUDIES}
Labels = Literal["packed", "online", "hard"]


class Variant(Block):
    """Other values for keys of params.yaml by block; null means the default of a key.

    `labels` says what students are trained with: the packed labels, the teachers at every step (`online`) or the
    classes of the images (`hard`). The default is `packed` if `softlabels.method` is stored, else `hard`.
    """

    selection: Changes = Field(default_factory=dict)
    synthesis: Changes = Field(default_factory=dict)
    softlabels: Changes = Field(default_factory=dict)
    compression: Changes = Field(default_factory=dict)
    evaluation: Changes = Field(default_factory=dict)
    labels: Labels | None = None


def changed(content: Mapping[str, Any], variant: Variant) -> dict[str, Any]:
    """The content of params.yaml with the changes of a variant; `dcpipe.config.changes` has the rules."""
    return changes.changed(content, {name: getattr(variant, name) for name in BLOCKS})


def settings(chain: Sequence[Variant], ipc: int, content: Mapping[str, Any]) -> tuple[Params, Labels]:
    """The parameters at one ipc after the changes of each variant of a chain, and what students are trained with.

    Raises `DataError` for a change that would be invalid in params.yaml too, and for one that would have no effect.
    """
    labels: Labels | None = None
    for variant in chain:
        _check_used(variant)
        content, labels = changed(content, variant), variant.labels or labels
    # The sizes of the workspace may be larger than this ipc.
    blocks = {"selection": {**content["selection"], "ipc": ipc}, "evaluation": {**content["evaluation"], "sizes": []}}
    parsed = params.parse({**content, **blocks}, "params.yaml with its changes")
    stored = parsed.softlabels.method == "stored"
    require(
        stored or labels != "packed",
        f"labels is packed but softlabels.method is {parsed.softlabels.method}; choose online or hard, or softlabels: "
        "{method: stored}",
    )
    return parsed, labels or ("packed" if stored else "hard")


def _check_used(variant: Variant) -> None:
    for block, keys in SHARED.items():
        for key in keys:
            require(
                key not in getattr(variant, block),
                f"a variant may not set {block}.{key}: the study sets it for all variants, or does not use it",
            )
