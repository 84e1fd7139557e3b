"""Teachers: networks trained on the full train split by the shared training loop.

* `crops.py`  random crops of whole images
* `feeds.py`  the images of an epoch, and the batches that a network is fed
* `jobs.py`   the training of a stage, as a description that other processes can read
* `ranks.py`  the same in several processes that torchrun starts
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dcpipe import networks, training
from dcpipe.precision import autocast
from dcpipe.teacher.feeds import (
    MEMORY_BYTES,
    Feed,
    batch_sizes,
    check_shares,
    even_batches,
    feed_of,
    in_memory,
    memory_feed,
    plain_batches,
    stream_feed,
    training_batches,
)
from dcpipe.training import ALONE, Batch, Group, Recipe
from dcpipe.types import Colour, DataError, Head, ImageTable, IntArray, Teacher, ViewPolicy, require

__all__ = [
    "MEMORY_BYTES",
    "Feed",
    "Teacher",
    "batch_sizes",
    "check_class_order",
    "check_shares",
    "even_batches",
    "expected_colours",
    "feed_of",
    "in_memory",
    "make",
    "memory_feed",
    "plain_batches",
    "stream_feed",
    "train",
    "train_classifier",
    "training_batches",
]


def expected_colours(
    weights: str | None, mean: Sequence[float] | None, std: Sequence[float] | None, table: ImageTable
) -> tuple[Colour, Colour]:
    """Mean and standard deviation of the pixels that a network expects: those given, else those that its weights state,
    else those of the table it is trained on."""
    stated = networks.expected_pixels(weights) or (table.mean, table.std)
    red_green_blue, deviations = mean or stated[0], std or stated[1]
    return _colour(red_green_blue), _colour(deviations)


def _colour(values: Sequence[float]) -> Colour:
    red, green, blue = values
    return red, green, blue


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
    head: Head | None = None,
    input_size: int | None = None,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    group: Group = ALONE,
    sync_batchnorm: bool = False,
    full_crops: bool = False,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a teacher. Returns the network in evaluation mode and one row (epoch, loss, lr) per epoch.

    Args:
        name: of the network, as `networks.build` takes it.
        weights: pretrained weights to start from, as `networks.load_weights` takes them, or None.
        feed: the images of an epoch, e.g. a `memory_feed`.
        policy: how images are augmented.
        recipe: how to train; None leaves the weights as they are.
        classes: class names in label order.
        size: side of the images in pixels.
        mean, std: per channel, for normalisation.
        seed: of the initial weights and of training.
        device: where the network is trained.
        head: None takes all weights as they are. Otherwise the network gets a new classifier, whatever classes the
            weights are for: `linear` trains it alone (see `train_classifier`), `finetune` with all other weights.
        input_size: the side in pixels to which the network resizes images, or None.
        checkpoint: a file to write checkpoints to and to resume from, or None.
        report: called with each row as soon as its epoch is done.
        group, sync_batchnorm: the processes that train it together, as `training.fit` takes them; `feed` gives the
            shares of this one.
        full_crops: whether the images of the feed are crops of whole images already.

    Raises `DataError` for an unknown network, for weights that do not fit and for a loss that is no longer finite.
    """
    torch.manual_seed(seed)
    network = networks.build(name, len(classes), input_size or size)
    if weights is not None:
        networks.load_weights(network, name, weights, new=None if head is None else networks.head(network))
    if input_size is not None:
        networks.resize_inputs(network, input_size)
    if recipe is None:
        return network.to(device).eval(), []
    batches = training_batches(feed, policy, size, mean, std, full_crops)
    if head == "linear":
        return train_classifier(
            network, batches, recipe, seed=seed, device=device, checkpoint=checkpoint, report=report, group=group
        )
    return training.fit(
        network,
        batches,
        training.cross_entropy,
        recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        report=report,
        group=group,
        sync_batchnorm=sync_batchnorm,
    )


def train_classifier(
    network: nn.Module,
    batches: Callable[[int], Iterator[Batch]],
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    group: Group = ALONE,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train the classifier of a network (`networks.head`) and leave all other weights, and the statistics of batch
    norm, as they are. Arguments and result are those of `training.fit`.

    Every epoch shows new views, so every batch goes through the network once, in evaluation mode and without gradients,
    which takes a third of the time of training the whole network. The classifier is then trained on the vectors by the
    same loop as any network. Checkpoints contain the classifier only.

    Raises `DataError` if the network computes its logits by more than its last linear layer.
    """
    network = network.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    classifier = networks.head(network)
    inputs, _ = next(batches(0))
    vectors, logits = networks.forward(network, inputs[:2])
    require(
        logits.shape[1] == classifier.out_features
        and torch.allclose(classifier(vectors), logits, rtol=1e-3, atol=1e-3),
        f"network {type(network).__name__} does not end in one linear layer, so head linear cannot train it alone; "
        "use head finetune",
    )

    def seen(epoch: int) -> Iterator[Batch]:
        for inputs, labels in batches(epoch):
            if device.type == "cuda":
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            with autocast(recipe.precision, device):
                vectors, _ = networks.forward(network, inputs)
            yield vectors.float(), labels

    trained, history = training.fit(
        classifier.requires_grad_(True),
        seen,
        training.cross_entropy,
        recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        report=report,
        group=group,
    )
    classifier.load_state_dict(trained.state_dict())  # with recipe.ema, what was trained is not the result
    return network, history


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
    input_size: int | None = None,
) -> Teacher:
    """The `Teacher` of a network, with its accuracy by split in percent.

    Args:
        confusion: i64 [c, c], on the images of one split: how many images of class i (row) the network assigns to
            class j.
        trained_here: whether its weights were trained on these very labels, so that its classes cannot be in another
            order.
        input_size: the side in pixels to which the network resizes images, or None.

    Raises `DataError` for a teacher that is no better than chance (1.5 times chance or less) on minival, or, if it is
    pretrained, on any split. Also for a pretrained teacher whose classes are in another order, or for which that cannot
    be told; this is the most reported bug of the field.
    """
    chance = 100.0 / len(classes)
    for split, value in accuracy.items():
        require(
            (trained_here and split != "minival") or value > 1.5 * chance,
            f"teacher {name}: {split} accuracy is {value:.1f} %, but chance is {chance:.1f} %; "
            "check the class order of its weights, or train it longer",
        )
    if not trained_here:
        check_class_order(name, accuracy, confusion, classes)
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    return Teacher(name, weights, classes, mean, std, size, accuracy, input_size)


# Below this accuracy in percent a pretrained teacher needs a confusion matrix to show that its classes are in order.
PLAINLY_RIGHT = 50.0


def check_class_order(
    name: str, accuracy: Mapping[str, float], confusion: IntArray | None, classes: Sequence[str]
) -> None:
    """Raises `DataError` where a network's outputs are the images' classes in another order, all or some of them.

    A class counts as displaced where the best one-to-one matching of classes to outputs (Hungarian method, on the
    confusion matrix i64 [c, c]) gives it another output than its own, which most of its images get, and its own output
    gets less than half as many. One pair of look-alikes may do that in a large set by itself, so more than one class in
    a hundred is asked for, and two at least; classes of fewer than five images say nothing.
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
    displaced = np.flatnonzero((output != rows) & (images >= 5) & (2 * other > images) & (2 * own < other))
    # What changed places did so among themselves; a class that is merely mistaken for another did not.
    while len(displaced) and not np.isin(output[displaced], displaced).all():
        displaced = displaced[np.isin(output[displaced], displaced)]
    if len(displaced) >= max(2, -(-len(classes) // 100)):
        shown = ", ".join(f"{classes[i]!r} at {classes[output[i]]!r}" for i in displaced[:5])
        more = f" and {len(displaced) - 5} more" if len(displaced) > 5 else ""
        right = 100.0 * confusion[rows, output].sum() / max(1, confusion.sum())
        raise DataError(
            f"teacher {name}: {len(displaced)} of {len(classes)} classes are at another class's output "
            f"({shown}{more}), and in the right order its accuracy would be {right:.1f} %; give the images' classes in "
            "the order of its weights"
        )
