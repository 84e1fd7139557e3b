"""`CondensedDataset`: what students train from. One item is (image view, soft label) of one image in one epoch.

Images and packed labels live on one device; a batch is one gather, one batched crop and one batched decode. Images
that are stored as grids (`ImageSet.grid`) are decoded first: everything here is of the decoded ones.
No file a batch, no order that labels are tied to: any batch size, sampler and worker count gives the same pairs.
Where labels come from is a choice (`targets.py`); the rest is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from dcpipe import views
from dcpipe.dataset.targets import Beyond, HardLabels, Labels, PackLabels
from dcpipe.training.losses import check_temperature
from dcpipe.types import ImageSet, IntArray, KeptViews, LabelPack, ViewLaw, require
from dcpipe.views import multiformation


class CondensedDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Map-style torch dataset of (image f32 [3, s, s] in [0, 1], soft label f32 [c]).

    Call `set_epoch(e)` before each epoch: view number and, for pruned labels, the draw depend on it. Works with any
    `DataLoader` (it offers `__getitems__`); `batch(items)` is the fast path that leaves everything on the device.

    Args:
        images: the condensed set, decoded here where it is of grids.
        labels: where targets come from, e.g. `PackLabels(pack, device)`.
        policy: how views are drawn, or those that were kept; must be what the labels were made with.
        temperature: of the targets; with None they are raw logits. Where `cutmix_labels` mixes targets by lambda, it
            mixes whichever is asked for: probabilities, or logits.
        size: pixels of a view; by default what kept views were taken at, or the images' own height.
        device: where images live.

    Raises `DataError` when the labels are of another number of images.
    """

    def __init__(
        self,
        images: ImageSet,
        labels: Labels,
        policy: ViewLaw,
        *,
        temperature: float | None = 1.0,
        size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.images = images = multiformation.decoded(images)
        require(
            labels.n_images == len(images),
            f"condensed dataset: labels of {labels.n_images} images for {len(images)} decoded images; give labels of "
            "exactly these images",
        )
        self.labels = labels
        # One-hot labels of a mixed image are the lambda-mixed labels: the teacher's view of the mix has no counterpart.
        linear = isinstance(labels, HardLabels) and policy.mix == "cutmix_images"
        self.policy = replace(policy, mix="cutmix_labels") if linear else policy
        if temperature is not None:
            check_temperature(temperature)
        require(
            size is None or size >= 1,
            f"condensed dataset: size is {size} pixels; give 1 or more, or leave it out for the images' own",
        )
        self.temperature = temperature
        self.size = size or (policy.size if isinstance(policy, KeptViews) else images.images.shape[1])
        self.pixels = torch.from_numpy(images.images).to(device)
        self.classes_of = torch.from_numpy(images.labels).to(device)
        # In shared memory, so that workers which live on (`persistent_workers=True`) hear of a new epoch.
        self._asked_epoch: torch.Tensor = torch.zeros((), dtype=torch.int64)
        self._asked_epoch.share_memory_()  # type: ignore[no-untyped-call]  # torch has no annotation of it
        self.set_epoch(0)

    @classmethod
    def from_pack(
        cls,
        images: ImageSet,
        pack: LabelPack,
        *,
        temperature: float | None = 1.0,
        device: torch.device | str = "cpu",
        beyond: Beyond = "wrap",
    ) -> CondensedDataset:
        """The usual case: a condensed set and its label pack; `beyond` as `PackLabels` has it."""
        labels = PackLabels(pack, torch.device(device), beyond)
        return cls(images, labels, pack.policy, temperature=temperature, device=device)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose views the items are. They are all drawn here: once per epoch, not per batch.

        Worker processes of a `DataLoader` follow at their next batch. Raises `DataError` for what is no epoch.
        """
        require(
            isinstance(epoch, int | np.integer) and not isinstance(epoch, bool) and epoch >= 0,
            f"condensed dataset: epoch is {epoch!r}; give a whole number of 0 or more",
        )
        self._asked_epoch.fill_(int(epoch))
        self._draw(int(epoch))

    def _draw(self, epoch: int) -> None:
        self.epoch = epoch
        self.rows, self.views = self.labels.plan(epoch)
        taken = views.views_of(self.policy, self.images.ids)
        self.drawn = taken.own(self.rows, self.views)
        mixed = self.policy.mix != "none"
        self.partners = taken.partners(self.rows, self.views, self.drawn) if mixed else self.drawn

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, items: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Views f32 [m, 3, s, s] in [0, 1] and targets f32 [m, c] of the given items, i64 [m].

        Raises `IndexError` for an item outside -n..n - 1, as sequences do.
        """
        outside = items[(items < -len(self)) | (items >= len(self))]
        if len(outside):
            raise IndexError(f"item {int(outside[0])} of a dataset of {len(self)}")
        rows, numbers = self.rows[items], self.views[items]
        drawn = self.drawn[items]
        own = views.crop(views.take(self.pixels, rows), drawn, self.size)
        if self.policy.mix == "none":
            return own, self.labels.of(rows, numbers, drawn, own, self.temperature)
        theirs = self.partners[items]
        other = views.crop(views.take(self.pixels, drawn.partner), theirs, self.size)
        mixed = views.paste(own, other, drawn)
        if self.policy.mix == "cutmix_images":
            return mixed, self.labels.of(rows, numbers, drawn, mixed, self.temperature)
        kept = torch.from_numpy(drawn.kept(self.size).astype(np.float32)).to(own.device)[:, None]
        mine = self.labels.of(rows, numbers, drawn, own, self.temperature)
        return mixed, kept * mine + (1 - kept) * self.labels.of(drawn.partner, numbers, theirs, other, self.temperature)

    def hard(self, items: IntArray) -> torch.Tensor:
        """Class numbers i64 [m] of the items' own images, whatever is pasted into their views."""
        return views.take(self.classes_of, self.rows[items])

    def __getitems__(self, items: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """A list of samples, made in one batch: what `DataLoader` asks for."""
        if (epoch := int(self._asked_epoch)) != self.epoch:  # set in another process since the last batch
            self._draw(epoch)
        inputs, targets = self.batch(np.asarray(items, dtype=np.int64))
        return list(zip(inputs, targets, strict=True))

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.__getitems__([item])[0]
