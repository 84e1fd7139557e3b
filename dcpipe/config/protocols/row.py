"""One published protocol of one paper on one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# How views are drawn where a paper says nothing else; the keys are those of softlabels.augmentation, and `mix`.
PLAIN_VIEWS: Mapping[str, Any] = {
    "scale_min": 0.08,
    "scale_max": 1.0,
    "flip": 0.5,
    "randaugment": 0,
    "shuffle": 1,
    "siamese": "",
    "mix_share": 1.0,
    "mix": "none",
}


@dataclass(frozen=True)
class Row:
    """`constants` are values of keys of `evaluation`; keys that are not here keep the keys' defaults.

    `views` are what students see, which labels are stored for, where they are not `PLAIN_VIEWS`; None: not checked.
    `free` are keys that the protocol leaves to params.yaml: their values are not told as changes.
    """

    constants: Mapping[str, Any]
    views: Mapping[str, Any] | None
    free: tuple[str, ...] = ()
