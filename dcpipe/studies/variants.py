"""Variants of a workspace: what a study says otherwise than params.yaml, block by block.

A variant names some keys of `selection`, `synthesis`, `softlabels`, `compression` and `evaluation`; all others are the
workspace's. In the study `syntheses` every variant stands for itself; in `ladder` each adds to those above it, which is
how EDC shows what its design choices are worth (its Fig. 1 and Tables 3 to 5). In `sizes` each is scored at every size.
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
# What the study itself sets for all its variants, so that it would be lost on one of them.
SHARED = {"selection": ("ipc",), "evaluation": NOT_OF_STUDIES}
Labels = Literal["packed", "online", "hard"]


class Variant(Block):
    """Keys of blocks of params.yaml with other values, null for their defaults. `labels`: what students learn from, the
    packed labels, the teachers asked at every step (`online`) or the images' own classes (`hard`); by default hard
    where `softlabels.method` is none, else packed."""

    selection: Changes = Field(default_factory=dict)
    synthesis: Changes = Field(default_factory=dict)
    softlabels: Changes = Field(default_factory=dict)
    compression: Changes = Field(default_factory=dict)
    evaluation: Changes = Field(default_factory=dict)
    labels: Labels | None = None


def changed(content: Mapping[str, Any], variant: Variant) -> dict[str, Any]:
    """The content of params.yaml as a variant has it, by the rule of `dcpipe.config.changes`."""
    return changes.changed(content, {name: getattr(variant, name) for name in BLOCKS})


def settings(chain: Sequence[Variant], ipc: int, content: Mapping[str, Any]) -> tuple[Params, Labels]:
    """The parameters at one ipc after the changes of each variant of a chain, and what students learn from.

    Raises `DataError` for a change that params.yaml could not hold either, and for one that would have no effect.
    """
    labels: Labels | None = None
    for variant in chain:
        _check_used(variant)
        content, labels = changed(content, variant), variant.labels or labels
    # The workspace's sizes may be more than this ipc has.
    blocks = {"selection": {**content["selection"], "ipc": ipc}, "evaluation": {**content["evaluation"], "sizes": []}}
    own = params.parse({**content, **blocks}, "params.yaml with its changes")
    stored = own.softlabels.method == "stored"
    require(
        stored or labels != "packed",
        "labels is packed but softlabels.method is none; choose online or hard, or softlabels: {method: stored}",
    )
    return own, labels or ("packed" if stored else "hard")


def _check_used(variant: Variant) -> None:
    for block, keys in SHARED.items():
        for key in keys:
            require(
                key not in getattr(variant, block),
                f"a variant may not set {block}.{key}: the study sets it for all variants, or does not use it",
            )
