"""Where the targets of views come from: a pack, some of a pack's images, the teachers online, or the hard labels.

`CondensedDataset` asks for those of any views in any order: what they are is here, what views are taken is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import networks, views
from dcpipe.compression import CODECS, check_mix, rebuild
from dcpipe.training import soften
from dcpipe.types import ImageSet, IntArray, LabelPack, Teacher, require
from dcpipe.views import Views

Beyond = Literal["wrap", "refuse"]
SHIFTED = ("prune_topk", "topk", "zipf")  # codecs that decode to logits up to a shift, or to -inf: right after softmax


class Labels(Protocol):
    """Where the targets of views come from. `n_images`: how many images they are of, decoded ones where stored images
    are grids."""

    n_images: int

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """(rows, views) of the epoch's items, before shuffling."""
        ...

    def of(
        self, rows: IntArray, stored: IntArray, drawn: Views, inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """Target distributions f32 [m, c] of the given views, whose pixels are `inputs` [m, 3, s, s] in [0, 1];
        their raw logits f32 [m, c] where the temperature is None."""
        ...


class PackLabels:
    """Soft labels decoded from a pack. Views beyond K wrap round, as the codec's `replay` says, unless the codec knows
    more than K; with `beyond="refuse"` an epoch that would see a label again raises `DataError` instead."""

    def __init__(self, pack: LabelPack, device: torch.device, beyond: Beyond = "wrap") -> None:
        require(beyond in get_args(Beyond), f"beyond is {beyond!r}; choose one of {', '.join(get_args(Beyond))}")
        self.pack, self.beyond = pack, beyond
        self.n_images = pack.shape.images
        self.codec = rebuild(pack, CODECS)
        self.arrays: Mapping[str, torch.Tensor] = {
            name: torch.from_numpy(np.ascontiguousarray(array[:])).to(device) for name, array in pack.arrays.items()
        }
        check_mix(pack.codec, self.codec, pack.shape, pack.policy.mix)

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """The codec's replay."""
        rows, stored = self.codec.replay(epoch, self.pack.shape)
        known = self.pack.shape.views
        require(
            self.beyond == "wrap" or epoch < known or bool((stored >= known).all()),
            f"epoch {epoch} needs views beyond the {known} that codec {self.pack.codec!r} stored; train for at most "
            f"{known} epochs, or let views wrap",
        )
        return rows, stored

    def of(
        self, rows: IntArray, stored: IntArray, drawn: Views, inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """softmax(decoded logits / T), or the decoded logits. Raises `DataError` for logits from a codec that keeps
        only what softmax sees."""
        require(
            temperature is not None or self.pack.codec not in SHIFTED,
            f"codec {self.pack.codec!r} keeps probabilities, but raw logits were asked for; choose another codec, or a "
            "loss of distributions such as kl",
        )
        return _asked(self.codec.decode(self.arrays, rows, stored, self.pack.shape, drawn), temperature)


def rows_of(pack: LabelPack, images: ImageSet) -> IntArray:
    """Rows of the pack that label the images, decoded where they are grids; there may be fewer than the pack has."""
    return np.flatnonzero(np.isin(pack.ids, images.decoded_ids))


class PrefixLabels:
    """A pack's labels for some of its images: rows of the smaller set are looked up in the whole pack, so nothing
    is encoded again and any codec serves any size."""

    def __init__(self, whole: PackLabels, kept: IntArray) -> None:
        self.whole = whole
        self.kept = kept
        self.n_images = len(kept)
        self.position = np.full(whole.pack.shape.images, -1, dtype=np.int64)
        self.position[kept] = np.arange(len(kept))

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """The whole pack's plan, without the images left out."""
        rows, views = self.whole.plan(epoch)
        mine = self.position[rows] >= 0
        return self.position[rows[mine]], views[mine]

    def of(
        self, rows: IntArray, stored: IntArray, drawn: Views, inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """The whole pack's targets."""
        return self.whole.of(self.kept[rows], stored, drawn, inputs, temperature)


class OnlineLabels:
    """The teachers asked at every step: no bytes of labels, fresh views for ever, the teachers must travel along."""

    def __init__(self, teachers: Sequence[Teacher], n_images: int, device: torch.device) -> None:
        self.teachers = list(teachers)
        self.networks: list[nn.Module] = [networks.from_teacher(teacher, device) for teacher in teachers]
        self.n_images = n_images

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Every image once, in a view never seen before."""
        return np.arange(self.n_images), np.full(self.n_images, epoch, dtype=np.int64)

    def of(
        self, rows: IntArray, stored: IntArray, drawn: Views, inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """softmax(mean teacher logits / T), or the mean logits."""
        return _asked(networks.mean_logits(self.networks, self.teachers, inputs), temperature)


class HardLabels:
    """One-hot labels of the images; the temperature does not apply."""

    def __init__(self, labels: IntArray, n_classes: int, device: torch.device) -> None:
        self.n_images = len(labels)
        self.one_hot = F.one_hot(torch.from_numpy(labels), n_classes).float().to(device)

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Every image once, in a fresh view."""
        return np.arange(self.n_images), np.full(self.n_images, epoch, dtype=np.int64)

    def of(
        self, rows: IntArray, stored: IntArray, drawn: Views, inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """The one-hot rows. Raises `DataError` when asked for logits."""
        require(temperature is not None, "hard labels have no logits; choose a loss of distributions, such as kl")
        return views.take(self.one_hot, rows)


def _asked(logits: torch.Tensor, temperature: float | None) -> torch.Tensor:
    return logits.float() if temperature is None else soften(logits, temperature)
