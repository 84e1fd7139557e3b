"""`CondensedDataset`: what students train from. One item is (image view, soft label) of one image in one epoch.

Images and packed labels live on one device; a batch is one gather, one batched crop and one batched decode. Images
that are stored as grids (`ImageSet.grid`) are decoded first: everything here is of the decoded ones.
No file a batch, no order that labels are tied to: any batch size, sampler and worker count gives the same pairs.
`CondensedLoader` gives them without leaving the device.
Where labels come from is a choice (`labels.py`); the rest is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from dcpipe import formation, views
from dcpipe.labels import Beyond, HardLabels, Labels, PackLabels
from dcpipe.types import ImageSet, IntArray, KeptViews, LabelPack, ViewLaw, require


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
        self.images = images = formation.decoded(images)
        require(
            labels.n_images == len(images),
            f"condensed dataset: labels of {labels.n_images} images for {len(images)} decoded images; give labels of "
            "exactly these images",
        )
        self.labels = labels
        # One-hot labels of a mixed image are the lambda-mixed labels: the teacher's view of the mix has no counterpart.
        linear = isinstance(labels, HardLabels) and policy.mix == "cutmix_images"
        self.policy = replace(policy, mix="cutmix_labels") if linear else policy
        self.temperature = temperature
        self.size = size or (policy.size if isinstance(policy, KeptViews) else images.images.shape[1])
        self.pixels = torch.from_numpy(images.images).to(device)
        self.classes_of = torch.from_numpy(images.labels).to(device)
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
        """Choose the epoch whose views items are. They are all drawn here: once an epoch, not once a batch."""
        self.epoch = epoch
        self.rows, self.views = self.labels.plan(epoch)
        taken = views.views_of(self.policy, self.images.ids)
        self.drawn = taken.own(self.rows, self.views)
        mixed = self.policy.mix != "none"
        self.partners = taken.partners(self.rows, self.views, self.drawn) if mixed else self.drawn

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, items: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Views f32 [m, 3, s, s] in [0, 1] and targets f32 [m, c] of the given items."""
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
        inputs, targets = self.batch(np.asarray(items, dtype=np.int64))
        return list(zip(inputs, targets, strict=True))

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of a dataset of {len(self)}")
        return self.__getitems__([item])[0]


class CondensedLoader:
    """The fast path: batches cut and decoded where the images live, with no worker, no copy and no file a batch.

    Iterating gives (inputs, targets) of the dataset's epoch: views passed through `finish`, and their target
    distributions. Batches are nearly equal, at most `batch_size`: no tail of one image, which batch norm cannot train
    on. The order is a function of (seed, epoch). Of `world` processes, number `rank` gets every `world`-th item of it:
    as many each, no item twice, and the few that cannot be dealt evenly left out for the epoch.

    Raises `DataError` for a batch size below 1, a rank outside 0..world - 1 and fewer items than processes.
    """

    def __init__(
        self,
        dataset: CondensedDataset,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        finish: Callable[[torch.Tensor], torch.Tensor] = lambda inputs: inputs,
    ) -> None:
        require(batch_size >= 1, f"condensed loader: batch_size is {batch_size}; give 1 or more")
        require(0 <= rank < world, f"condensed loader: rank is {rank} of {world} processes; give 0..{world - 1}")
        require(len(dataset) >= world, f"condensed loader: {len(dataset)} items cannot be dealt to {world} processes")
        self.dataset, self.batch_size, self.seed, self.shuffle = dataset, batch_size, seed, shuffle
        self.rank, self.world, self.finish = rank, world, finish

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, as `CondensedDataset.set_epoch`."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-(len(self.dataset) // self.world) // self.batch_size)

    def _items(self) -> list[IntArray]:
        """Items of each batch of the epoch, in order."""
        n = len(self.dataset)
        order = views.permutation(self.seed, self.dataset.epoch, n) if self.shuffle else np.arange(n)
        mine = order[: n // self.world * self.world].reshape(-1, self.world)[:, self.rank]
        return np.array_split(mine, len(self))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for items in self._items():
            inputs, targets = self.dataset.batch(items)
            yield self.finish(inputs), targets

    def batches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of an epoch, as `training.fit` asks for them."""
        self.set_epoch(epoch)
        return self

    def with_hard(self, epoch: int) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        """As `batches`, with targets (soft f32 [m, c], hard i64 [m]) for losses that need the class numbers too."""
        self.set_epoch(epoch)
        for items in self._items():
            inputs, targets = self.dataset.batch(items)
            yield self.finish(inputs), (targets, self.dataset.hard(items))
