"""One published protocol of one paper on one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# How views are drawn if a paper does not say otherwise; the keys are those of softlabels.augmentation, and `mix`.
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
    """`constants` are values for keys of `evaluation`; other keys have their usual defaults.

    `views` are the settings in which the views of students, for which labels are stored, differ from `PLAIN_VIEWS`;
    with None, views are not checked, and a key that is in neither is not compared. `free` are keys that the protocol
    leaves to params.yaml; they never count as changes. `labels` are those that the protocol gives to every set,
    whatever labels it is shipped with: those of a teacher that labels every batch, or the classes of the images; "own"
    leaves a set its own.
    """

    constants: Mapping[str, Any]
    views: Mapping[str, Any] | None
    free: tuple[str, ...] = ()
    labels: Literal["own", "online", "hard"] = "own"
