"""Contenders: images with labels and their sizes in bytes, and the score of a student that is trained on them.

All images are labelled by the same teachers in the same views, their labels are packed to a budget, and all are scored
under one protocol. The evaluation compares the condensed set with its baselines in this way, and studies compare
selectors and variants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcpipe import softlabels, store, training
from dcpipe.compression import Codec, packing
from dcpipe.compression.budget import Budget
from dcpipe.config.params import CompressionBlock, SoftLabelsBlock
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.stored_labels import StoredLabels
from dcpipe.dataset.targets import HardLabels, Labels, OnlineLabels, PackLabels, PrefixLabels, rows_of
from dcpipe.evaluation.stored import Stored
from dcpipe.evaluation.students import Protocol, train_student
from dcpipe.evaluation.whole_images import UNCHANGED, whole_images
from dcpipe.shards import progress
from dcpipe.types import (
    BudgetError,
    Colour,
    Ensemble,
    ImageSet,
    ImageTable,
    IntArray,
    LabelPack,
    LabelShape,
    Map,
    Sliceable,
    SoftLabels,
    StoredViews,
    Teacher,
    ViewPolicy,
    ViewSource,
)
from dcpipe.views import multiformation


@dataclass(frozen=True)
class Contender:
    """One row of a table: images as they are stored, the source of the labels of the decoded images, and sizes in
    bytes.

    `kind` is a short, unique name within a table; `name` is the name that is displayed. A contender that is a smaller
    size of another one has that contender's `kind` in `part_of` and its nominal number of images per class in `size`.
    It may store another number of images if it is made of cells. `file` has the encoded images if they are on disk;
    `stored` says where everything is on disk, None if some of it is only in memory. With `has_hard_labels`, students
    learn from the classes of the images. `whitening` is the file of the ZCA transform that students see all images
    through, those they are tested on too, None for mean and deviation; its bytes are among those of the images.
    """

    kind: str
    name: str
    images: ImageSet
    labels: Callable[[], Labels]
    policy: ViewSource
    image_bytes: int
    label_bytes: int
    teacher_bytes: int = 0
    part_of: str = ""
    size: int | None = None
    file: Path | None = None
    stored: Stored | None = None
    has_hard_labels: bool = False
    whitening: Path | None = None

    @property
    def ipc(self) -> int:
        """Images per class, of the classes that have most."""
        return self.size or self.images.most_per_class

    def renamed(self, kind: str, name: str) -> Contender:
        """The same contender under another kind and name, for a separate row."""
        return replace(self, kind=kind, name=name)

    def whitened(self, file: Path | None) -> Contender:
        """The same contender with the transform in a file, which students need too; unchanged for None."""
        if file is None:
            return self
        stored = self.stored and replace(self.stored, whitening=str(file.absolute()))
        return replace(self, whitening=file, image_bytes=self.image_bytes + file.stat().st_size, stored=stored)

    def with_pack(self, pack: LabelPack, device: torch.device) -> Contender:
        """The same images with the labels of a pack, which are decoded on the device when they are needed, in the views
        that the pack has labels for."""
        stored = replace(self.stored, pack=pack.file) if self.stored and pack.file else None
        return replace(
            self,
            labels=partial(PackLabels, pack, device),
            policy=pack.policy,
            label_bytes=pack.n_bytes,
            stored=stored,
            has_hard_labels=False,
        )

    def with_stored_labels(self, logits: Sliceable, n_bytes: int) -> Contender:
        """The same images with uncompressed labels fp16 [n, K, c], of which only those of an epoch are read; as a file,
        they take `n_bytes`."""
        path = store.array_path(logits)
        stored = replace(self.stored, logits=str(path)) if self.stored and path else None
        labels = partial(StoredLabels, logits)
        return replace(self, labels=labels, label_bytes=n_bytes, stored=stored, has_hard_labels=False)

    def with_online_teachers(
        self, teachers: Mapping[str, Teacher], n_bytes: int, device: torch.device, ensemble: Ensemble = "mean"
    ) -> Contender:
        """The same images, labelled online by the teachers at every step: labels take no bytes, but weights take
        `n_bytes`."""
        online = partial(OnlineLabels, list(teachers.values()), len(self.images.decoded_ids), device, ensemble)
        files = store.Verified.teachers(teachers.values())
        stored = replace(self.stored, teachers=files, ensemble=ensemble) if self.stored and files is not None else None
        free = replace(self, labels=online, label_bytes=0, has_hard_labels=False)
        return replace(free, teacher_bytes=n_bytes, stored=stored)


def hard_contender(
    kind: str,
    name: str,
    images: ImageSet,
    policy: ViewSource,
    image_bytes: int,
    device: torch.device,
    file: Path | None = None,
) -> Contender:
    """Images with one-hot labels of their classes, which take no bytes; `file` is where the images are on disk."""
    labels = partial(HardLabels, images.decoded_labels, len(images.classes), device)
    whole = None if file is None else store.SetFile.at(file, images)
    stored = Stored(whole, policy) if whole is not None and isinstance(policy, ViewPolicy) else None
    return Contender(
        kind, name, images, labels, policy, image_bytes, label_bytes=0, file=file, stored=stored, has_hard_labels=True
    )


def smaller(whole: Contender, ipc: int, notes: store.Notes) -> Contender:
    """The first `ipc` images per class of a contender with packed or hard labels. Nothing is encoded again: the labels
    are those of the whole pack, and their size is that of the whole pack. Images that are measured for their size are
    taken from the file of the whole as they are, unless they are new combinations of cells."""
    less = first_images(whole, ipc)
    transform = 0 if whole.whitening is None else whole.whitening.stat().st_size
    return replace(
        less,
        kind=f"{whole.kind} {ipc}",
        name=f"{whole.name}, first {ipc}",
        image_bytes=notes.image_bytes(less.images, whole.file) + transform,
        file=None,
        part_of=whole.kind,
        size=ipc,
        stored=whole.stored and replace(whole.stored, first=ipc),
    )


def first_images(whole: Contender, ipc: int) -> Contender:
    """A contender with its first `ipc` images per class, and their labels."""
    images = multiformation.subset(whole.images, ipc)

    def labels() -> Labels:
        found = whole.labels()
        if isinstance(found, PackLabels):
            return PrefixLabels(found, rows_of(found.pack, images))
        assert isinstance(found, HardLabels)
        return HardLabels(images.decoded_labels, len(images.classes), found.one_hot.device)

    return replace(whole, images=images, labels=labels)


def budget_of(block: CompressionBlock) -> Budget:
    """The budget that params.yaml specifies."""
    return Budget(**block.model_dump())


@dataclass(frozen=True, eq=False)
class Labeller:
    """Makes contenders of any images: labels the images and packs the labels as two blocks of params.yaml specify.

    All intermediate results are saved in notes, so that a killed run continues from them and a finished one reads its
    packs.
    """

    softlabels: SoftLabelsBlock
    compression: CompressionBlock
    device: torch.device
    map_tasks: Map

    def shape(self, ipc: int, n_classes: int) -> LabelShape:
        """The shape of the labels of `ipc` training images per class."""
        return LabelShape(ipc * n_classes, self.softlabels.views, n_classes)

    def plan(self, shape: LabelShape) -> Codec:
        """The codec for labels of a shape. Raises `BudgetError`, before any work, if they do not fit the budget."""
        return budget_of(self.compression).plan(shape, self.softlabels.policy)

    def budget_error(self, shape: LabelShape) -> str:
        """The reason why labels of a shape cannot be packed to the budget; "" if they can."""
        try:
            self.plan(shape)
        except BudgetError as error:
            return str(error)
        return ""

    def hard(self, kind: str, images: ImageSet, notes: store.Notes) -> Contender:
        """Images with hard labels; the size of the images is measured by writing them to `notes`."""
        policy, file = self.softlabels.policy, notes.image_file(images)
        n_bytes = file.stat().st_size
        return hard_contender(kind, f"{kind}, hard labels", images, policy, n_bytes, self.device, file)

    def contender(
        self,
        kind: str,
        images: ImageSet,
        teachers: Mapping[str, Teacher],
        notes: store.Notes,
        budgets: Mapping[str, CompressionBlock] | None = None,
    ) -> Contender:
        """Images with packed labels by the teachers, or with hard labels if there are no teachers.

        The teachers label the images only once. With `budgets`, the labels are packed to each of them, and the
        contender gets the first of these packs. Uncompressed labels are removed after packing, because those of many
        contenders would fill the disk.
        """
        hard = self.hard(kind, images, notes)
        if not teachers:
            return hard
        wanted = budgets or {"labels": self.compression}
        if not all(map(notes.has_pack, wanted)):
            labels = self.soft_labels(images, teachers, notes)
            for name, block in wanted.items():
                self.pack(labels, budget_of(block), notes, name)
        notes.remove("labels.zarr")
        pack = notes.read_pack(next(iter(wanted)), images.decoded_ids)
        return hard.renamed(kind, f"{kind}, {pack.codec}").with_pack(pack, self.device)

    def soft_labels(self, images: ImageSet, teachers: Mapping[str, Teacher], notes: store.Notes) -> SoftLabels:
        """Uncompressed labels of any images; images that are grids are decoded first."""
        file = store.SetFile.at(notes.image_file(images), images)
        block, images = self.softlabels, multiformation.decoded(images)
        blocks = notes.blocks("labels", softlabels.shape_of(images, block.views), "float16")
        softlabels.fill(
            blocks,
            images,
            teachers,
            policy=block.policy,
            batch_size=block.batch_size,
            device=self.device,
            map_tasks=self.map_tasks,
            file=file,
            ensemble=block.ensemble,
        )
        return SoftLabels(blocks.array, block.policy, images.ids, images.classes, tuple(teachers))

    def pack(self, labels: SoftLabels, budget: Budget, notes: store.Notes, name: str) -> LabelPack:
        """The pack `name` of some labels, which is encoded if it does not exist yet. A `BudgetError` leaves no
        files."""
        if not notes.has_pack(name):
            budget.plan(LabelShape(*labels.logits.shape), labels.policy)
            blocks = notes.within(f"{name}.blocks")
            notes.save_pack(name, budget.compress(labels, blocks.folder, self.device, self.map_tasks))
            notes.remove(f"{name}.blocks")
        return notes.read_pack(name, labels.ids)


def uncompressed_bytes(labels: SoftLabels) -> int:
    """Bytes of the file of some labels in fp16, as codec `none` would pack them."""
    shape = LabelShape(*labels.logits.shape)
    views = labels.policy.n_bytes if isinstance(labels.policy, StoredViews) else 0
    return packing.file_bytes("none", Budget().plan(shape, labels.policy), shape, labels.policy) + views


def score(
    contender: Contender,
    protocol: Protocol,
    train: ImageTable,
    test: ImageTable,
    seed: int,
    *,
    device: torch.device,
    folder: Path,
) -> dict[str, Any]:
    """Train one student on a contender and test it, after the last epoch or as often as the protocol specifies.

    Returns `accuracy`, the best accuracy in percent of the tests that count, and `history`, one row per epoch. A killed
    run continues from its checkpoint in `folder`. Pixels are normalised by the mean and deviation of `train`, or
    whitened by the transform of the contender.
    """
    stem = f"{contender.name}-{seed}".replace("/", "-").replace(" ", "-")

    def accuracy(student: nn.Module) -> float:
        batches = whole_images(test, folder, train.mean, train.std, device, contender.whitening)
        return training.accuracy(student, batches, device)

    _, history = trained(
        contender,
        protocol,
        train,
        seed,
        device=device,
        checkpoint=folder / f"{stem}.pt",
        title=f"student {contender.name} {seed}",
        test=accuracy,
    )
    counted = max(row["accuracy"] for row in history if int(row["epoch"]) in protocol.test_epochs)
    return {"accuracy": counted, "history": history}


def trained(
    contender: Contender,
    protocol: Protocol,
    train: ImageTable,
    seed: int,
    *,
    device: torch.device,
    checkpoint: Path,
    title: str,
    labels: Labels | None = None,
    colours: tuple[Colour, Colour] | None = None,
    test: Callable[[nn.Module], float] | None = None,
    start: nn.Module | None = None,
    extra: Callable[[nn.Module], torch.Tensor] | None = None,
    classes: IntArray | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train one student on a contender, as `train_student` does, and show its progress under a title. A killed run
    continues from the checkpoint, which is removed in the end.

    Args:
        contender: the images and their labels.
        protocol: how the student is trained.
        train: the images that the set was made from, which give the size of views and the classes.
        seed: of the student.
        device: where it is trained.
        checkpoint: the file to continue from.
        title: what progress is shown under.
        labels: instead of those of the contender.
        colours: mean and deviation that pixels are normalised by, instead of those of `train`; a contender with a
            transform is whitened instead, and must have none.
        test, start, extra, classes: see `train_student`.
    """
    if contender.whitening is not None:
        assert colours is None, "whitened images are not normalised"
        colours = UNCHANGED
    mean, std = colours or (train.mean, train.std)
    dataset = dataset_of(contender, protocol, train, device, labels)
    epochs = protocol.recipe.epochs
    progress.report(title, 0, epochs)
    found = train_student(
        dataset,
        protocol,
        n_classes=len(train.classes),
        mean=mean,
        std=std,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        report=lambda row: progress.epoch(title, row, epochs),
        test=test,
        start=start,
        extra=extra,
        classes=classes,
    )
    checkpoint.unlink(missing_ok=True)
    return found


def dataset_of(
    contender: Contender, protocol: Protocol, train: ImageTable, device: torch.device, labels: Labels | None = None
) -> CondensedDataset:
    """What students of a contender are trained on under a protocol; `labels` instead of its own."""
    labels = contender.labels() if labels is None else labels
    return CondensedDataset(
        contender.images,
        labels,
        contender.policy,
        temperature=protocol.target_temperature(labels),
        size=train.size,
        device=device,
        whitening=None if contender.whitening is None else store.read_whitening(contender.whitening),
    )
