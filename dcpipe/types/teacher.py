"""Trained networks, and the features they compute for the images of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dcpipe.types.base import Colour, FloatArray, IntArray, Sliceable, find_rows, require

if TYPE_CHECKING:  # importing torch takes seconds, and commands that only read parameters need none of it
    import torch

# How a new classifier of pretrained weights is trained: alone, or with all other weights.
Head = Literal["linear", "finetune"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network with what is needed to use it correctly: its normalisation and its class order.

    `weights`: state dict; `size`: the side in pixels of the images it was trained on; `accuracy`: by split, in percent;
    `input_size`: the side to which images are resized just before the network, None for images as they are. `origin`:
    folder and digest of the artifact that it was read from, None for a network that is only in memory.
    """

    network: str
    weights: dict[str, torch.Tensor]
    classes: tuple[str, ...]
    mean: Colour
    std: Colour
    size: int
    accuracy: dict[str, float]
    input_size: int | None = None
    origin: tuple[str, str] | None = None

    def __repr__(self) -> str:
        tested = ", ".join(f"{split} {value:.4g}" for split, value in self.accuracy.items())
        return f"<Teacher: {self.network}, {len(self.classes)} classes, images of {self.size} pixels; {tested}>"

    def __post_init__(self) -> None:
        for name, tensor in self.weights.items():
            finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
            require(finite, f"teacher {self.network}: weight {name!r} contains NaN or infinity; train it again")

    @property
    def network_size(self) -> int:
        """The side in pixels of what the network sees."""
        return self.input_size or self.size


@dataclass(frozen=True, eq=False)
class Features:
    """What a teacher computes for every row of a table, in the order of the table. The arrays may be on disk.

    `vectors` f32 [n, d] (input of the last linear layer), `logits` f32 [n, c], `label_rate` f64 [n]: R_C of each
    image's soft labels (SCORE, Eq. 7), infinite for images that are not on the shortlist; `rank` i64 [n]: position in
    the shortlist of the class, -1 for images that are not on it.
    """

    vectors: Sliceable
    logits: Sliceable
    label_rate: FloatArray
    ids: IntArray
    labels: IntArray
    rank: IntArray | None = None

    def __repr__(self) -> str:
        return f"<Features: vectors of {self.vectors.shape[1]} numbers of {len(self.ids):,} images>"

    def __post_init__(self) -> None:
        for name in ("vectors", "logits", "label_rate", "labels"):
            rows, n = getattr(self, name).shape[0], len(self.ids)
            require(rows == n, f"features: {name} has {rows} rows, ids have {n}")
        require(not np.isnan(self.label_rate).any(), "features: label_rate contains NaN; extract them again")

    def rows_of(self, ids: IntArray) -> IntArray:
        """Rows of the images `ids`, in that order: i64 [m]. Raises `DataError` for an image that has no features."""
        return find_rows(self.ids, ids, "has no features; run `dvc repro features` to extract them again")

    def lower_half(self, ids: IntArray) -> float | None:
        """The share of the images `ids` that come from the lower half of the shortlist; None if there is no shortlist.
        If it is near 0, a longer shortlist would hardly change which images are picked."""
        if self.rank is None:
            return None
        return float((self.rank[self.rows_of(ids)] >= (int(self.rank.max()) + 1) / 2).mean())
