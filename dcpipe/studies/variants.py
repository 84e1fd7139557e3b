"""Variants of a workspace: what a study says otherwise than params.yaml, block by block.

A variant names some keys of `selection`, `synthesis`, `softlabels`, `compression` and `evaluation`; all others are the
workspace's. In the study `syntheses` every variant stands for itself; in `ladder` each adds to those above it, which is
how EDC tells what its design choices are worth (its Fig. 1 and Tables 3 to 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import Field

from dcpipe.config import changes, params
from dcpipe.config.blocks import Block, Count
from dcpipe.config.params import NOT_OF_STUDIES, Params
from dcpipe.types import require

EntryName = Annotated[str, Field(pattern=r"^[a-z0-9]+([_.-][a-z0-9]+)*$")]
Changes = dict[str, Any]
BLOCKS = ("selection", "synthesis", "softlabels", "compression", "evaluation")
# What the study itself says for all its variants, so that it would be lost on one of them.
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


class VariantsStudy(Block):
    """Variants by the names that rows and pictures get, each at every ipc. Images are made once, students once a
    seed."""

    variants: Annotated[dict[EntryName, Variant], Field(min_length=1)]
    ipc: Annotated[list[Count], Field(min_length=1)]
    seeds: Annotated[list[int], Field(min_length=3)]
    split: Literal["test", "minival"] = "test"


def changed(content: Mapping[str, Any], variant: Variant) -> dict[str, Any]:
    """The content of params.yaml as a variant has it, by the rule of `dcpipe.config.changes`."""
    return changes.changed(content, {name: getattr(variant, name) for name in BLOCKS})


def settings(
    study: VariantsStudy, name: str, ipc: int, content: Mapping[str, Any], cumulative: bool
) -> tuple[Params, Labels]:
    """The parameters of one variant at one ipc and what its students learn from.

    Raises `DataError` for a change that params.yaml could not hold either, and for one that would have no effect.
    """
    names = list(study.variants)
    labels: Labels | None = None
    for link in names[: names.index(name) + 1] if cumulative else [name]:
        variant = study.variants[link]
        _check_used(variant)
        content, labels = changed(content, variant), variant.labels or labels
    # The workspace's sizes may be more than this ipc has.
    its = {"selection": {**content["selection"], "ipc": ipc}, "evaluation": {**content["evaluation"], "sizes": []}}
    own = params.parse({**content, **its}, "params.yaml with its changes")
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
                f"{block}.{key} is not a variant's to change; the study says it for all, or does not use it",
            )


def summary(results: Sequence[Mapping[str, Any]], cumulative: bool) -> list[dict[str, Any]]:
    """One row a variant and ipc of `results` (one row a seed), in their order: mean and standard deviation (n - 1) of
    the accuracy in percent and, in a ladder, the `gain` over the rung below it."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["variant"], row["ipc"]), []).append(row)
    rows: list[dict[str, Any]] = []
    before: dict[int, float] = {}
    for (name, ipc), members in groups.items():
        mean = fmean(row["accuracy"] for row in members)
        gain = {"gain": round(mean - before[ipc], 3) if ipc in before else ""} if cumulative else {}
        before[ipc] = mean
        shared = {key: value for key, value in members[0].items() if key not in ("seed", "accuracy", "variant", "ipc")}
        accuracy = {"accuracy": round(mean, 3), "std": round(stdev(row["accuracy"] for row in members), 3)}
        rows.append({"variant": name, "ipc": ipc, **accuracy, **gain, "seeds": len(members), **shared})
    return rows
