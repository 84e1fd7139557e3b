"""`CondensedDataset`, which students train on. One item is a view of one image in one epoch, with its soft label.

Images and packed labels are on one device; a batch takes one gather, one batched crop and one batched decode. What
batches need to know of an epoch goes to the device once (`items.py`). Images
that are stored as grids (`ImageSet.grid`) are decoded first, and everything here refers to the decoded images. There is
no file per batch and no fixed order of labels, so every batch size, sampler and worker count gives the same pairs. The
labels come from one of the sources in `targets.py`; everything else is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from dcpipe import views
from dcpipe.dataset.items import Items
from dcpipe.dataset.repeats import Repeats
from dcpipe.dataset.targets import Beyond, HardLabels, Labels, OnlineLabels, PackLabels
from dcpipe.training.losses import check_temperature
from dcpipe.types import ImageSet, IntArray, LabelPack, StoredViews, ViewSource, Whitening, require
from dcpipe.views import multiformation
from dcpipe.views.whitening import Whitener


class CondensedDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Map-style torch dataset of (image f32 [3, s, s] in [0, 1], soft label f32 [c]).

    Call `set_epoch(e)` before each epoch, because the view numbers depend on it, and so do the labels drawn from a
    pruned pack. A warning says so, once, if an epoch is drawn twice without it. The dataset works with any
    `DataLoader`, for which it implements `__getitems__`. `items(order)` is the fast path: its batches copy nothing to
    the device. `batch(items)` does this for a single batch.

    Args:
        images: the condensed set. If its images are grids, they are decoded here.
        labels: the source of targets, e.g. `PackLabels(pack, device)`.
        policy: how views are drawn, or stored views; must be what the labels were made with.
        temperature: of the targets; with None the targets are raw logits. Under `cutmix_labels`, lambda mixes whichever
            of the two is requested, probabilities or logits.
        size: side of a view in pixels; by default that of stored views, or the height of the images.
        device: where the images are stored.
        whitening: the ZCA transform of the set. Whole images are whitened once, and everything that makes views of them
            (crop, flip, mix, siamese augmentation) acts in the whitened space, as during matching. Views are then
            inputs of networks as they are, and must not be normalised.

    Raises `DataError` if the labels are for another number of images; with `whitening`, for a teacher's labels and
    RandAugment, which need pixels in [0, 1], and for images of another size.
    """

    def __init__(
        self,
        images: ImageSet,
        labels: Labels,
        policy: ViewSource,
        *,
        temperature: float | None = 1.0,
        size: int | None = None,
        device: torch.device | str = "cpu",
        whitening: Whitening | None = None,
    ) -> None:
        self.images = images = multiformation.decoded(images)
        require(
            labels.n_images == len(images),
            f"condensed dataset: got labels for {labels.n_images} images, but there are {len(images)} decoded images; "
            "give labels for exactly these images",
        )
        self.labels = labels
        # Hard labels of a mixed image are mixed by lambda, because no teacher has labelled the mix.
        linear = isinstance(labels, HardLabels) and policy.mix == "cutmix_images"
        self.policy = replace(policy, mix="cutmix_labels") if linear else policy
        if temperature is not None:
            check_temperature(temperature)
        require(
            size is None or (isinstance(size, int | np.integer) and 1 <= size < 2**16),
            f"condensed dataset: size is {size} pixels; give 1 or more, or leave it out for the images' own",
        )
        self.temperature = temperature
        self.size = size or (policy.size if isinstance(policy, StoredViews) else images.images.shape[1])
        self.whitening = whitening
        self.pixels = torch.from_numpy(images.images).to(device)
        if whitening is not None:
            self._check(whitening)
            self.pixels = _whitened(self.pixels, whitening)
        self.classes_of = torch.from_numpy(images.labels).to(device)
        # In shared memory, so that persistent workers (`persistent_workers=True`) see a new epoch.
        self._requested_epoch: torch.Tensor = torch.zeros((), dtype=torch.int64)
        self._requested_epoch.share_memory_()  # type: ignore[no-untyped-call]  # torch has no annotation of it
        self.repeats = Repeats()
        self.set_epoch(0)

    def _check(self, whitening: Whitening) -> None:
        randaugment = getattr(self.policy, "randaugment", 0)
        require(
            not isinstance(self.labels, OnlineLabels),
            "condensed dataset: whitened images cannot be labelled by a teacher, which sees others; take the labels of "
            "the set",
        )
        require(
            not randaugment, "condensed dataset: RandAugment is not possible on whitened images; set randaugment to 0"
        )
        size = self.images.images.shape[1]
        require(
            size == whitening.size,
            f"condensed dataset: the transform is for images of {whitening.size} pixels, but these have {size}; give "
            "the one of this set",
        )

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
        """A dataset of a condensed set and its label pack, the usual case; see `PackLabels` for `beyond`."""
        labels = PackLabels(pack, torch.device(device), beyond)
        return cls(images, labels, pack.policy, temperature=temperature, device=device)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0. The parameters of all its views are drawn here, once per epoch, not once per batch.

        Worker processes of a `DataLoader` follow at their next batch. Raises `DataError` for anything but a whole
        number of 0 or more.
        """
        require(
            isinstance(epoch, int | np.integer) and not isinstance(epoch, bool) and 0 <= epoch < 2**31,
            f"condensed dataset: epoch is {epoch!r}; give a whole number of 0 or more",
        )
        self._requested_epoch.fill_(int(epoch))
        self.repeats.restart()
        self._draw(int(epoch))

    def _draw(self, epoch: int) -> None:
        self.epoch = epoch
        self.rows, self.views = self.labels.plan(epoch)
        view_set = views.views_of(self.policy, self.images.ids)
        self.drawn = view_set.parameters(self.rows, self.views)
        mixed = self.policy.mix != "none"
        self.partners = view_set.partners(self.rows, self.views, self.drawn) if mixed else None

    def __repr__(self) -> str:
        shown = f"{len(self.images):,} images of {len(self.images.classes)} classes, {type(self.labels).__name__}"
        return f"<CondensedDataset: {shown}, views of {self.size} pixels, epoch {self.epoch}>"

    def __len__(self) -> int:
        return len(self.rows)

    def items(self, items: IntArray) -> Items:
        """The given items i64 [m] of the epoch in this order, with everything that their batches need on the device.

        Raises `IndexError` for an item outside -n..n - 1, as sequences do.
        """
        outside = items[(items < -len(self)) | (items >= len(self))]
        if len(outside):
            raise IndexError(f"item {int(outside[0])} is out of range for a dataset of {len(self)} items")
        rows, numbers, drawn = self.rows[items], self.views[items], self.drawn[items]
        partners = None if self.partners is None else self.partners[items]
        mixed_later = partners is not None and self.policy.mix == "cutmix_labels"
        return Items(
            self.pixels,
            self.classes_of,
            self.labels,
            self.temperature,
            views.Placed.of(self.pixels, rows, drawn, partners, self.size, self.whitening is not None),
            self._sent(rows, numbers, drawn),
            self._sent(drawn.partner, numbers, partners) if partners is not None and mixed_later else None,
        )

    def _sent(self, rows: IntArray, numbers: IntArray, drawn: views.Views) -> dict[str, torch.Tensor]:
        """Where the targets of some views are, on the device."""
        located = self.labels.locate(rows, numbers, drawn)
        return {name: views.send(array, self.pixels.device) for name, array in located.items()}

    def batch(self, items: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Views f32 [m, 3, s, s] in [0, 1], or whitened, and targets f32 [m, c] of the given items, i64 [m].

        Raises `IndexError` for an item outside -n..n - 1, as sequences do.
        """
        return self.items(items).batch(slice(None))

    def hard(self, items: IntArray) -> torch.Tensor:
        """Class numbers i64 [m] of the images of the items, even if another image is pasted into their views."""
        return views.take(self.classes_of, self.rows[items])

    def to_hf(self, *, labels: bool = False) -> Any:
        """The images as a `datasets.Dataset` in memory: `id`, `image` and `label`, a ClassLabel with the class names.

        With `labels`, rows have the stored soft labels too: `logits`, `Array2D((K, c), "float16")` of K views of c
        classes, and the `box`, `Array2D((K, 4), "float32")` (left, top, width, height as fractions), and `flip` u8 [K]
        of each view. They take 2 K c bytes per image. `datasets` is in the extra of that name.

        Raises `DataError` if it is not installed, if the labels are hard or a teacher's, if images were mixed before
        labelling, and if the codec dropped views.
        """
        from dcpipe.dataset.huggingface import to_hf

        return to_hf(self.images, self.labels if labels else None)

    def __getitems__(self, items: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """A list of samples, computed as one batch; `DataLoader` calls this."""
        samples = self._samples(items)
        self.repeats.count(len(samples), len(self), self.epoch)
        return samples

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._samples([item])[0]

    def _samples(self, items: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if (epoch := int(self._requested_epoch)) != self.epoch:  # set in another process since the last batch
            self._draw(epoch)
        inputs, targets = self.batch(np.asarray(items, dtype=np.int64))
        return list(zip(inputs, targets, strict=True))


def _whitened(images: torch.Tensor, whitening: Whitening) -> torch.Tensor:
    """Images u8 [n, s, s, 3] whitened: f32 of the same shape."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    return Whitener.of(whitening, images.device)(pixels).permute(0, 2, 3, 1).contiguous()
