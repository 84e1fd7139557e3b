"""The contenders of the evaluation stage: the condensed set, and the baselines that `evaluation.baselines` names.

* the set with its packed labels
* `uncompressed`: the same labels in fp16
* `online`: the teachers label every batch
* `hard`: one-hot labels of the images' classes
* `random`: equally many random real images, labelled and packed in the same way
* `equal_bytes`: as many random real images with hard labels as fit in the bytes of the set with its labels

The smaller sizes that `evaluation.sizes` lists are added for the set and for random images. The upper bound is not made
from a set: see `all_images`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import selection, store
from dcpipe.config.params import EvaluationBlock, Params, SelectionBlock
from dcpipe.evaluation.all_images import LOSS
from dcpipe.evaluation.contenders import Contender, Labeller, hard_contender, smaller, uncompressed_bytes
from dcpipe.evaluation.students import Protocol
from dcpipe.images import read_selection
from dcpipe.selection.random import random
from dcpipe.types import ImageSet, ImageTable, LabelPack, Score, SoftLabels, Teacher

Outcome = Mapping[str, Any]  # what `contenders.score` returns


@dataclass(frozen=True, eq=False)
class SoftLabelled:
    """Soft labels of the condensed set, packed and, if they are at hand, uncompressed, and the teachers that gave them
    with their size in bytes. Without teachers, there are no rows that need them, and other images have hard labels."""

    pack: LabelPack
    uncompressed: SoftLabels | None
    teachers: Mapping[str, Teacher]
    teacher_bytes: int


@dataclass(frozen=True, eq=False)
class Lineup:
    """Makes the contenders; the condensed set comes first.

    `method`: what the images are named after in the table. `image_file`: the file of `images`. `labels`: None if
    students learn from hard labels. `whitening`: the file of the ZCA transform of the set, if it has one. Random images
    are then seen through it too, and its bytes are among theirs; `equal_bytes` is normalised by mean and deviation and
    spends those bytes on images.
    """

    params: Params
    method: str
    images: ImageSet
    image_file: Path
    labels: SoftLabelled | None
    train: ImageTable
    labeller: Labeller
    notes: store.Notes
    whitening: Path | None = None

    def contenders(self) -> list[Contender]:
        """All of them, in the order of the table."""
        name, device, baselines = self.method, self.labeller.device, self.params.evaluation.baselines
        policy = self.params.softlabels.policy
        n_bytes = self.image_file.stat().st_size
        hard = hard_contender("hard", f"{name}, hard labels", self.images, policy, n_bytes, device, self.image_file)
        hard = hard.whitened(self.whitening)
        if self.labels is None:
            sized = self._at_sizes(hard)
            return [*sized, *self._random({}), *self._equal_bytes(sized[0])]
        labels = self.labels
        rows = self._at_sizes(hard.renamed("own", f"{name}, {labels.pack.codec}").with_pack(labels.pack, device))
        if "uncompressed" in baselines and labels.uncompressed is not None:
            whole, named = labels.uncompressed, hard.renamed("uncompressed", f"{name}, uncompressed")
            rows.append(named.with_stored_labels(whole.logits, uncompressed_bytes(whole)))
        if "online" in baselines and labels.teachers:
            online = hard.renamed("online", f"{name}, teacher online")
            ensemble = self.params.softlabels.ensemble
            rows.append(online.with_online_teachers(labels.teachers, labels.teacher_bytes, device, ensemble))
        if "hard" in baselines:
            rows.append(hard)
        return [*rows, *self._random(labels.teachers), *self._equal_bytes(rows[0])]

    def _random(self, teachers: Mapping[str, Teacher]) -> list[Contender]:
        """Random real images at every size; empty if they are not among the baselines."""
        if "random" not in self.params.evaluation.baselines:
            return []
        images = self._random_images(self.params.selection.ipc)
        whole = self.labeller.contender("random", images, teachers, self.notes.within("random"))
        return self._at_sizes(whole.whitened(self.whitening))

    def _equal_bytes(self, whole: Contender) -> list[Contender]:
        """As many random real images with hard labels as take no more bytes than a contender with its labels, judged by
        the mean size of as many images as the set has; empty if they are not among the baselines, or if not even one
        image per class fits."""
        if "equal_bytes" not in self.params.evaluation.baselines:
            return []
        kind, budget = "equal_bytes", whole.image_bytes + whole.label_bytes
        for ipc, images in random_within(self.train, self.params.selection, budget, self.notes):
            name = f"{kind}-{ipc}"
            made = self.labeller.hard(kind, images, self.notes.within(name))
            if made.image_bytes <= budget:
                return [made.renamed(kind, "random, hard labels, equal bytes")]
            self.notes.remove(name)
        return []

    def _random_images(self, ipc: int) -> ImageSet:
        block = self.params.selection
        return random_images(self.train, ipc, block.seed, block.takes_all)

    def _at_sizes(self, whole: Contender) -> list[Contender]:
        """The contender, and the smaller sizes of it that `evaluation.sizes` lists."""
        below = [size for size in sorted(self.params.evaluation.sizes) if size < self.params.selection.ipc]
        return [
            whole,
            *(smaller(whole, size, self.notes.within(f"{whole.kind}-{size}")) for size in below),
        ]


def random_images(train: ImageTable, ipc: int, seed: int, take_all: bool = False) -> ImageSet:
    """`ipc` random images per class or, with `take_all`, all of a class that has fewer."""
    candidates = replace(selection.candidates_without_features(train), take_all=take_all)
    picks = random(candidates, ipc, seed, selection.Progress())
    return read_selection(train, candidates.selection(picks, "random"))


def random_within(
    train: ImageTable,
    block: SelectionBlock,
    budget: int,
    notes: store.Notes,
    label_bytes: Callable[[int], int | None] = lambda images: 0,
) -> Iterator[tuple[int, ImageSet]]:
    """Random images in so many bytes: the most per class that fit if each takes as much as those of a sample of the
    set's size do on average, and then one less per class at a time, because only their file says what they take.

    Args:
        train: where they are drawn from.
        block: images per class of the sample, and the seed.
        budget: bytes for images and labels.
        notes: where the size of the sample is kept.
        label_bytes: of the labels of so many images; None if there can be no labels of so few.
    """
    sample = random_images(train, block.ipc, block.seed, block.takes_all)
    mean = notes.within("equal_bytes-sample").image_bytes(sample) / len(sample)
    sizes = np.bincount(train.labels, minlength=len(train.classes))
    most, fitting = int(sizes.max() if block.takes_all else sizes.min()), 0
    for ipc in range(1, most + 1):
        images = int(np.minimum(ipc, sizes).sum())
        if images * mean > budget:
            break
        labels = label_bytes(images)
        if labels is not None and images * mean + labels <= budget:
            fitting = ipc
    for ipc in range(fitting, 0, -1):
        yield ipc, random_images(train, ipc, block.seed, block.takes_all)


def method_of(params: Params) -> str:
    """The method that made the images: the synthesis method, or the selector if there is no synthesis."""
    method = params.synthesis.method
    return params.selection.method if method == "none" else method


def score_of(contender: Contender, outcomes: Sequence[Outcome], protocol: Protocol, block: EvaluationBlock) -> Score:
    """The table row of a contender, from the results of its students, one per seed."""
    return Score(
        name=contender.name,
        protocol=protocol.name,
        student=block.student,
        ipc=contender.ipc,
        accuracy=tuple(outcome["accuracy"] for outcome in outcomes),
        image_bytes=contender.image_bytes,
        label_bytes=contender.label_bytes,
        teacher_bytes=contender.teacher_bytes,
        epochs=block.epochs,
    )


def learning_curves(
    contenders: Sequence[Contender], outcomes: Sequence[Sequence[Outcome]], protocol: Protocol
) -> list[dict[str, Any]]:
    """The rows of `learning_curve` of all contenders; `outcomes` may go on with those of other rows."""
    curves: list[dict[str, Any]] = []
    for contender, students in zip(contenders, outcomes, strict=False):
        loss = LOSS if contender.has_hard_labels else protocol.loss
        curves += learning_curve(contender.name, loss, students)
    return curves


def learning_curve(name: str, loss: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per epoch: the name of the set, which loss its students minimise (different ones cannot be compared), the
    epoch, and the training loss as mean and standard deviation over the students."""
    losses = np.array([[row["loss"] for row in outcome["history"]] for outcome in outcomes])
    deviations = losses.std(axis=0, ddof=1) if len(losses) > 1 else np.zeros(losses.shape[1])
    return [
        {"set": name, "loss": loss, "epoch": epoch, "mean": float(mean), "std": float(std)}
        for epoch, (mean, std) in enumerate(zip(losses.mean(axis=0), deviations, strict=True))
    ]


def at_each_size(
    contenders: Sequence[Contender], scores: Sequence[Score], params: Params
) -> Iterator[tuple[Contender, list[Score]]]:
    """The contender and scores of the condensed set, and of random images, at the sizes that `evaluation.sizes` lists,
    or at full size if it lists none."""
    sizes = params.evaluation.sizes or [params.selection.ipc]
    for whole in contenders:
        if whole is contenders[0] or whole.kind == "random":
            of_whole = [
                score
                for contender, score in zip(contenders, scores, strict=True)
                if whole.kind in (contender.kind, contender.part_of)
            ]
            yield whole, [score for score in of_whole if score.ipc in sizes]
