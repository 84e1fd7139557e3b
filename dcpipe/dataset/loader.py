"""`CondensedLoader`: batches of a `CondensedDataset` that never leave the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from dcpipe.dataset.dataset import CondensedDataset
from dcpipe.random import Stream, permutation
from dcpipe.types import IntArray, require


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
        stream = Stream.STUDENT_EPOCH + self.dataset.epoch
        order = permutation(self.seed, stream, n) if self.shuffle else np.arange(n)
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
