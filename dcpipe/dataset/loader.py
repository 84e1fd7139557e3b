"""`CondensedLoader`, whose batches of a `CondensedDataset` never leave the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from dcpipe.dataset.dataset import CondensedDataset
from dcpipe.dataset.items import Items
from dcpipe.random import Stream, permutation
from dcpipe.types import require
from dcpipe.types.arguments import as_whole


class CondensedLoader:
    """The fast path: batches are cropped and decoded where the images are, without workers, copies or files. What they
    need to know of an epoch is copied to the device when it begins.

    Iterating gives (inputs, targets) for the current epoch of the dataset. Batches have nearly equal sizes of at most
    `batch_size`, so no batch of one image is left at the end, which batch norm could not train on.

    Args:
        dataset: the images and their labels.
        batch_size: the largest number of items in a batch.
        seed: the order of items is a function of (seed, epoch).
        shuffle: whether to shuffle; otherwise items come in the order of the dataset.
        rank: the number of this process. It gets every `world`-th item, starting from item `rank`.
        world: the number of processes. All get the same number of items and no item is used twice; the few items that
            cannot be divided evenly are left out of the epoch.
        finish: applied to the views of every batch, e.g. to normalise them.

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
        batch_size = as_whole(batch_size, "condensed loader: batch_size", 1)
        require(0 <= rank < world, f"condensed loader: rank is {rank} of {world} processes; give 0..{world - 1}")
        require(
            len(dataset) >= world,
            f"condensed loader: world is {world}, but there are only {len(dataset)} items; use fewer processes",
        )
        self.dataset, self.batch_size, self.seed, self.shuffle = dataset, batch_size, seed, shuffle
        self.rank, self.world, self.finish = rank, world, finish
        self._finished = 0  # how often the dataset's epoch had been set when this loader last went through it

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, as `CondensedDataset.set_epoch` does."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return -(-(len(self.dataset) // self.world) // self.batch_size)

    def _epoch(self) -> tuple[Items, list[slice]]:
        """The items of this process in the order of the epoch, and which of them are in each batch."""
        n = len(self.dataset)
        stream = Stream.STUDENT_EPOCH + self.dataset.epoch
        order = permutation(self.seed, stream, n) if self.shuffle else np.arange(n)
        of_rank = order[: n // self.world * self.world].reshape(-1, self.world)[:, self.rank]
        batches = np.array_split(np.arange(len(of_rank)), len(self))
        return self.dataset.items(of_rank), [slice(int(batch[0]), int(batch[-1]) + 1) for batch in batches]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        repeats = self.dataset.repeats
        if self._finished == repeats.choices:
            repeats.warn(self.dataset.epoch)
        items, batches = self._epoch()
        for batch in batches:
            inputs, targets = items.batch(batch)
            yield self.finish(inputs), targets
        self._finished = repeats.choices

    def batches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of an epoch, in the form that `training.fit` takes."""
        self.set_epoch(epoch)
        return self

    def with_hard(self, epoch: int) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        """As `batches`, but with targets (soft f32 [m, c], hard i64 [m]), for losses that also need class numbers."""
        self.set_epoch(epoch)
        items, batches = self._epoch()
        for batch in batches:
            inputs, targets = items.batch(batch)
            yield self.finish(inputs), (targets, items.hard(batch))
