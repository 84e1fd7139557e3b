"""Teachers: networks trained on the full train split, by the shared loop; also how any split is fed to a network.

The view number of an image in training is the epoch, so augmentation is replayable and a resumed run sees the
same pixels as an unbroken one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dcpipe import networks, training, views
from dcpipe.random import Stream, permutation
from dcpipe.training import Batch, Recipe
from dcpipe.types import Colour, DataError, IntArray, Teacher, ViewPolicy, require

# Images u8 [m, s, s, 3] with labels and ids, for one epoch in training order, or once in table order.
Feed = Callable[[int], Iterator[tuple[torch.Tensor, IntArray, IntArray]]]


def even_batches(n: int, batch_size: int) -> list[IntArray]:
    """range(n) in ceil(n / batch_size) nearly equal pieces: from a batch size of 3 on, no tail of one image, which
    batch norm cannot train on. No piece where n is 0."""
    return np.array_split(np.arange(n), -(-n // batch_size)) if n else []


def memory_feed(
    images: npt.NDArray[np.uint8], labels: IntArray, ids: IntArray, batch_size: int, seed: int, device: torch.device
) -> Feed:
    """A feed of a split that fits in device memory: it stays there, shuffled anew each epoch."""
    pixels = torch.from_numpy(images).to(device)

    def feed(epoch: int) -> Iterator[tuple[torch.Tensor, IntArray, IntArray]]:
        order = permutation(seed, Stream.TEACHER_EPOCH + epoch, len(labels))
        for piece in even_batches(len(labels), batch_size):
            rows = order[piece]
            yield views.take(pixels, rows), labels[rows], ids[rows]

    return feed


def training_batches(
    feed: Feed, policy: ViewPolicy, size: int, mean: Colour, std: Colour
) -> Callable[[int], Iterator[Batch]]:
    """Augmented, normalised batches of an epoch."""

    def batches(epoch: int) -> Iterator[Batch]:
        for images, labels, ids in feed(epoch):
            drawn = views.draw(policy, ids, np.full(len(ids), epoch, dtype=np.int64), len(ids))
            inputs = views.normalise(views.crop(images, drawn, size), mean, std)
            yield inputs, torch.from_numpy(labels).to(images.device)

    return batches


def plain_batches(
    parts: Iterator[tuple[npt.NDArray[np.uint8], IntArray]],
    mean: Colour,
    std: Colour,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Whole images, normalised, in the order given: for accuracy on minival and test."""
    for images, labels in parts:
        for piece in even_batches(len(labels), batch_size):
            pixels = torch.from_numpy(images[piece]).to(device).permute(0, 3, 1, 2).float() / 255.0
            yield views.normalise(pixels, mean, std), torch.from_numpy(labels[piece]).to(device)


def train(
    name: str,
    weights: str | None,
    feed: Feed,
    *,
    policy: ViewPolicy,
    recipe: Recipe | None,
    classes: tuple[str, ...],
    size: int,
    mean: Colour,
    std: Colour,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train network `name` for `size`-pixel images, from `weights` if given; `recipe=None` keeps them as they are.

    Returns the network in evaluation mode and one row (epoch, loss, lr) an epoch.
    """
    torch.manual_seed(seed)
    network = networks.build(name, len(classes), size)
    if weights is not None:
        networks.load_weights(network, name, weights)
    if recipe is None:
        return network.to(device).eval(), []
    batches = training_batches(feed, policy, size, mean, std)
    return training.fit(
        network, batches, training.cross_entropy, recipe, seed=seed, device=device, checkpoint=checkpoint, report=report
    )


def make(
    name: str,
    network: nn.Module,
    classes: tuple[str, ...],
    mean: Colour,
    std: Colour,
    size: int,
    accuracy: dict[str, float],
    *,
    confusion: IntArray | None = None,
    trained_here: bool = False,
) -> Teacher:
    """The teacher of a network, with its accuracy by split in percent.

    Args:
        confusion: i64 [c, c], on the images of one split: how many of class i (row) the network takes for class j.
        trained_here: its weights were trained on these very labels, so that its classes cannot be in another order.

    Raises `DataError` for a teacher no better than chance on minival (pretrained: on any split), and for a pretrained
    one whose classes are in another order, or of which that cannot be told: the field's most reported bug.
    """
    chance = 100.0 / len(classes)
    for split, value in accuracy.items():
        require(
            (trained_here and split != "minival") or value > 1.5 * chance,
            f"teacher {name}: {split} accuracy is {value:.1f} %, chance is {chance:.1f} %; "
            "check the class order of its weights, or train it longer",
        )
    if not trained_here:
        check_class_order(name, accuracy, confusion, classes)
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    return Teacher(name, weights, classes, mean, std, size, accuracy)


# Below this accuracy in percent a pretrained teacher needs a confusion matrix to show that its classes are in order.
PLAINLY_RIGHT = 50.0


def check_class_order(
    name: str, accuracy: Mapping[str, float], confusion: IntArray | None, classes: Sequence[str]
) -> None:
    """Raises `DataError` where a network's outputs are the images' classes in another order, all or some of them.

    A class counts as displaced where the best one-to-one matching of classes to outputs (Hungarian method, on the
    confusion matrix i64 [c, c]) gives it another output than its own, which most of its images get, and its own output
    gets less than half as many. One pair of look-alikes may do that in a large set by itself, so more than one class in
    a hundred is asked for, and two at least; classes of fewer than three images say nothing.
    """
    if confusion is None:
        low = min(accuracy.values(), default=0.0)
        require(
            low >= PLAINLY_RIGHT,
            f"teacher {name}: its accuracy is {low:.1f} % and there is no confusion matrix to tell a weak teacher from "
            "one whose classes are in another order; give confusion=",
        )
        return
    from scipy.optimize import linear_sum_assignment

    _, output = linear_sum_assignment(confusion, maximize=True)
    rows = np.arange(len(classes))
    images, own, other = confusion.sum(axis=1), confusion[rows, rows], confusion[rows, output]
    displaced = np.flatnonzero((output != rows) & (images >= 3) & (2 * other > images) & (2 * own < other))
    if len(displaced) >= max(2, -(-len(classes) // 100)):
        shown = ", ".join(f"{classes[i]!r} at {classes[output[i]]!r}" for i in displaced[:5])
        more = f" and {len(displaced) - 5} more" if len(displaced) > 5 else ""
        right = 100.0 * confusion[rows, output].sum() / max(1, confusion.sum())
        raise DataError(
            f"teacher {name}: {len(displaced)} of {len(classes)} classes are at another class's output "
            f"({shown}{more}), and in the right order its accuracy would be {right:.1f} %; give the images' classes in "
            "the order of its weights"
        )
