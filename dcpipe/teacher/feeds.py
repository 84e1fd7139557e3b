"""The images of an epoch in the order of training, and the batches that a network is fed.

The view number of an image in training is the epoch. So augmentation can be replayed, and a resumed run sees the same
pixels as an uninterrupted one. Processes that train together deal every batch among themselves (`Group.deal`): which
images it contains, and in which views, does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import views
from dcpipe.images import read_all, stream
from dcpipe.random import Stream, permutation
from dcpipe.teacher.crops import Crops, after_crops
from dcpipe.training import ALONE, Batch, Group
from dcpipe.types import Colour, ImageTable, IntArray, ViewPolicy, require

# Called with an epoch; yields images u8 [m, s, s, 3], labels i64 [m] and ids i64 [m] in the order of training. In a
# group these are the shares of one process.
Feed = Callable[[int], Iterator[tuple[torch.Tensor, IntArray, IntArray]]]
# Decoded train splits up to this size stay in device memory; larger ones are streamed.
MEMORY_BYTES = 6 * 2**30


def even_batches(n: int, batch_size: int) -> list[IntArray]:
    """Split range(n) into ceil(n / batch_size) nearly equal batches; none if n is 0.

    With a batch size of 3 or more, no batch of one image is left at the end, which batch norm could not train on.
    """
    return np.array_split(np.arange(n), -(-n // batch_size)) if n else []


def in_memory(table: ImageTable, full_crops: bool = False) -> bool:
    """Whether the train split is decoded once and stays in device memory. Crops of whole images are decoded anew in
    every epoch, so they are always streamed."""
    return table.decoded_bytes <= MEMORY_BYTES and not full_crops


def batch_sizes(table: ImageTable, batch_size: int, full_crops: bool = False) -> list[int]:
    """The number of images in each batch of an epoch of `feed_of`, in all processes together."""
    if in_memory(table, full_crops):
        return [len(batch) for batch in even_batches(len(table), batch_size)]
    whole, rest = divmod(len(table), batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)


def check_shares(table: ImageTable, batch_size: int, world: int, full_crops: bool = False) -> None:
    """Raises `DataError` unless every process gets an image of every batch."""
    least = min(batch_sizes(table, batch_size, full_crops), default=0)
    require(
        world == 1 or least >= world,
        f"teacher.training.batch_size is {batch_size}, and the smallest batch of an epoch has {least} images, too few "
        f"for {world} processes; use at most {max(1, least)} processes (DCPIPE_PROCESSES), or change batch_size",
    )


def feed_of(
    table: ImageTable,
    batch_size: int,
    seed: int,
    device: torch.device,
    group: Group = ALONE,
    full_crops: ViewPolicy | None = None,
) -> Feed:
    """A feed of the train split: from device memory if it fits there, else streamed part by part. Nothing is read
    before the first epoch. With `full_crops`, the images are crops of whole ones (`crops.Crops`), drawn by this
    policy."""
    made: list[Feed] = []

    def make() -> Feed:
        if in_memory(table, full_crops is not None):
            return memory_feed(read_all(table), table.labels, table.ids, batch_size, seed, device, group)
        share = group.share if group.world > 1 else None

        def batches(epoch: int) -> Iterator[tuple[npt.NDArray[np.uint8], IntArray, IntArray]]:
            crops = None if full_crops is None else Crops(full_crops, epoch)
            return stream(table, seed, epoch, batch_size, share, crops)

        return stream_feed(batches, device)

    def feed(epoch: int) -> Iterator[tuple[torch.Tensor, IntArray, IntArray]]:
        if not made:
            made.append(make())
        return made[0](epoch)

    return feed


def memory_feed(
    images: npt.NDArray[np.uint8],
    labels: IntArray,
    ids: IntArray,
    batch_size: int,
    seed: int,
    device: torch.device,
    group: Group = ALONE,
) -> Feed:
    """A feed for a split that fits in the memory of the device; it stays there and is shuffled anew in each epoch."""
    pixels = torch.from_numpy(images).to(device)

    def feed(epoch: int) -> Iterator[tuple[torch.Tensor, IntArray, IntArray]]:
        order = permutation(seed, Stream.TEACHER_EPOCH + epoch, len(labels))
        for batch in even_batches(len(labels), batch_size):
            rows = order[batch][group.share(len(batch))]
            yield views.take(pixels, rows), labels[rows], ids[rows]

    return feed


def stream_feed(
    stream: Callable[[int], Iterator[tuple[npt.NDArray[np.uint8], IntArray, IntArray]]], device: torch.device
) -> Feed:
    """A feed of a split that is larger than memory: `stream(epoch)` gives its batches in training order."""

    def feed(epoch: int) -> Iterator[tuple[torch.Tensor, IntArray, IntArray]]:
        for pixels, labels, ids in stream(epoch):
            yield views.send(pixels, device), labels, ids

    return feed


def training_batches(
    feed: Feed, policy: ViewPolicy, size: int, mean: Colour, std: Colour, full_crops: bool = False
) -> Callable[[int], Iterator[Batch]]:
    """A function from an epoch to its augmented, normalised batches. With `full_crops`, the images of the feed are
    crops already."""

    def batches(epoch: int) -> Iterator[Batch]:
        for images, labels, ids in feed(epoch):
            drawn = views.draw(policy, ids, np.full(len(ids), epoch, dtype=np.int64), len(ids))
            shown = views.crop(images, after_crops(drawn) if full_crops else drawn, size)
            inputs = views.normalise(shown, mean, std)
            yield inputs, views.send(labels, images.device)

    return batches


def plain_batches(
    parts: Iterator[tuple[npt.NDArray[np.uint8], IntArray]],
    mean: Colour,
    std: Colour,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Whole images, normalised and in the given order, for measuring accuracy on minival and test."""
    for images, labels in parts:
        for batch in even_batches(len(labels), batch_size):
            pixels = views.send(images[batch], device).permute(0, 3, 1, 2).float() / 255.0
            yield views.normalise(pixels, mean, std), views.send(labels[batch], device)
