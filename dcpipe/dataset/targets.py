"""Sources of training targets: a label pack, a pack restricted to some images, the teachers online, or hard labels.

`CondensedDataset` decides which views are used and requests their targets in any order; this module provides them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import networks
from dcpipe.compression import CODECS, check_mix, rebuild
from dcpipe.compression.base import Array
from dcpipe.training import soften
from dcpipe.types import Ensemble, ImageSet, IntArray, LabelPack, Teacher, find_rows, require
from dcpipe.views import Views

Beyond = Literal["wrap", "refuse"]
SHIFTED = ("prune_topk", "topk", "zipf")  # decode to logits up to a shift, or to -inf: correct only after softmax


class Labels(Protocol):
    """A source of targets. `n_images` is the number of images it has targets for; for grids, of decoded images."""

    n_images: int

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """(rows, views), both i64, of the items of an epoch, before shuffling."""
        ...

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Array]:
        """What the targets of m views depend on, apart from their pixels: arrays whose axis 0 runs over the views.

        View j has number `stored[j]` of image `rows[j]`, and its parameters are row j of `drawn`. This is called in
        host memory for all items of an epoch at once; the arrays are then copied to the device.
        """
        ...

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """Target distributions f32 [m, c] of some views, or their raw logits f32 [m, c] if `temperature` is None.

        `located` are the rows of these views in the arrays of `locate`, on the device, and `inputs` [m, 3, s, s] are
        their pixels in [0, 1]. This is called for every batch, so it must not wait for the device.
        """
        ...


class PackLabels:
    """Soft labels decoded from a pack.

    View numbers beyond K wrap round as the codec's `replay` defines, unless the codec can label more than K views. With
    `beyond="refuse"`, an epoch that would use a label again raises `DataError` instead.
    """

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
        """The rows and views that the codec replays in this epoch."""
        rows, stored = self.codec.replay(epoch, self.pack.shape)
        n_views = self.pack.shape.views
        require(
            self.beyond == "wrap" or epoch < n_views or bool((stored >= n_views).all()),
            f"epoch {epoch} needs views beyond the {n_views} that codec {self.pack.codec!r} has stored; train for at "
            f"most {n_views} epochs, or use beyond='wrap'",
        )
        return rows, stored

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Array]:
        """What the codec needs to decode these views. Raises `DataError` for a label that it dropped."""
        return self.codec.locate(rows, stored, self.pack.shape, drawn)

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """softmax(decoded logits / T), or the decoded logits.

        Raises `DataError` if logits are requested from a codec that stores only what softmax needs.
        """
        require(
            temperature is not None or self.pack.codec not in SHIFTED,
            f"codec {self.pack.codec!r} stores probabilities, but the loss needs raw logits; choose another codec, or "
            "a loss on distributions such as kl",
        )
        return targets_of(self.codec.decode_located(self.arrays, located, self.pack.shape), temperature)


def rows_of(pack: LabelPack, images: ImageSet) -> IntArray:
    """Rows of the pack that label these images, or their decoded cells if they are grids. The pack may have more.

    Raises `DataError` for an image that the pack does not label.
    """
    return find_rows(pack.ids, images.decoded_ids, "has no labels in this pack; give the pack that was made for it")


class PrefixLabels:
    """Labels of a pack for some of its images.

    Rows of the smaller set are looked up in the whole pack, so nothing is encoded again and every codec works at every
    size.
    """

    def __init__(self, whole: PackLabels, rows_of_set: IntArray) -> None:
        self.whole = whole
        self.rows = rows_of_set
        self.n_images = len(rows_of_set)
        self.position = np.full(whole.pack.shape.images, -1, dtype=np.int64)
        self.position[rows_of_set] = np.arange(len(rows_of_set))

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """The plan of the whole pack, without the items of other images."""
        rows, views = self.whole.plan(epoch)
        present = self.position[rows] >= 0
        return self.position[rows[present]], views[present]

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Array]:
        """As the whole pack does for these images."""
        return self.whole.locate(self.rows[rows], stored, drawn)

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """The targets of the whole pack."""
        return self.whole.targets(located, inputs, temperature)


class OnlineLabels:
    """The teachers label every batch: labels take no bytes and views never repeat, but the teachers must be shipped."""

    def __init__(
        self, teachers: Sequence[Teacher], n_images: int, device: torch.device, ensemble: Ensemble = "mean"
    ) -> None:
        self.teachers, self.ensemble = list(teachers), ensemble
        self.networks: list[nn.Module] = [networks.from_teacher(teacher, device) for teacher in teachers]
        self.n_images = n_images

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Every image once, in a new view."""
        return np.arange(self.n_images), np.full(self.n_images, epoch, dtype=np.int64)

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Array]:
        """Nothing: the teachers see the pixels."""
        return {}

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """softmax(mean logits of the teachers / T), or the mean logits. With `equal_norms`, those of each teacher are
        scaled to the same norm in this batch, as G-VBSM's code does."""
        if self.ensemble == "mean":
            return targets_of(networks.mean_logits(self.networks, self.teachers, inputs), temperature)
        each = torch.stack(list(networks.each_logits(self.networks, self.teachers, inputs)))
        factors = networks.equal_norms(each.flatten(1).norm(dim=1))
        return targets_of((each * factors[:, None, None]).mean(0), temperature)


class HardLabels:
    """One-hot labels of the images; the temperature does not apply."""

    def __init__(self, labels: IntArray, n_classes: int, device: torch.device) -> None:
        self.n_images = len(labels)
        self.one_hot = F.one_hot(torch.from_numpy(labels), n_classes).float().to(device)

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Every image once, in a new view."""
        return np.arange(self.n_images), np.full(self.n_images, epoch, dtype=np.int64)

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Array]:
        """The rows of the images."""
        return {"rows": rows}

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """The one-hot labels. Raises `DataError` if logits are requested."""
        require(temperature is not None, "hard labels have no logits; choose a loss on distributions, such as kl")
        return self.one_hot.index_select(0, located["rows"])


def targets_of(logits: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """softmax(logits / T), or the logits, f32."""
    return logits.float() if temperature is None else soften(logits, temperature)
