"""Contenders: images with labels, what they weigh, and how well a student does that is trained on them.

Shared by `evaluation` (the condensed set and its baselines), `study` and `resilience` (whatever selectors pick) and
`label_study` (whatever codecs keep): any images are labelled by the same teachers in the same views, packed to a
budget, and judged by one protocol.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcpipe import store, teacher, training
from dcpipe.config import protocols
from dcpipe.config.params import CompressionBlock, EvaluationBlock, SoftLabelsBlock
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, Labels, PackLabels, PrefixLabels, rows_of
from dcpipe.evaluation import students
from dcpipe.images import read_parts
from dcpipe.types import BudgetError, By, ImageSet, ImageTable, LabelPack, SoftLabels, Teacher, ViewLaw
from dcpipe.views import multiformation
from flows.compression import compress
from flows.running.runtime import Run
from flows.softlabels import write_labels


@dataclass(frozen=True)
class Contender:
    """One row of a table: images as they are stored, where labels of the decoded ones come from, and what it weighs."""

    kind: str
    name: str
    images: ImageSet
    labels: Callable[[], Labels]
    policy: ViewLaw
    image_bytes: int
    label_bytes: int
    teacher_bytes: int = 0
    size: int | None = None  # images a class that a beginning counts as, where it may be made of cells

    @property
    def ipc(self) -> int:
        """Images a class."""
        return self.size or len(self.images) // len(self.images.classes)


def packed(pack: LabelPack, device: torch.device) -> Callable[[], Labels]:
    """Labels of a pack, decoded on the device when asked for."""
    return partial(PackLabels, pack, device)


def hard_labels(images: ImageSet, device: torch.device) -> Callable[[], Labels]:
    """The images' own one-hot labels."""
    return partial(HardLabels, images.decoded_labels, len(images.classes), device)


def hard_contender(run: Run, kind: str, images: ImageSet, folder: Path) -> Contender:
    """Images with their own labels; the images are written to `folder` to measure their bytes on disk."""
    block = run.params.softlabels
    policy = block.augmentation.policy(block.seed, block.mix)
    size = weighed(images, folder)
    return Contender(kind, f"{kind}, hard labels", images, hard_labels(images, run.device), policy, size, 0)


def weighed(images: ImageSet, folder: Path) -> int:
    """Bytes of the images on disk, written to `folder` to measure them."""
    folder.mkdir(exist_ok=True)
    store.save_set(folder, images)
    return (folder / "images.parquet").stat().st_size


def smaller(whole: Contender, ipc: int, by: By, folder: Path) -> Contender:
    """The first `ipc` images a class of a contender with packed or hard labels. Its labels stay those of the whole
    pack, and weigh what that weighs: nothing is encoded again."""
    images = multiformation.subset(whole.images, ipc, by)

    def labels() -> Labels:
        found = whole.labels()
        if isinstance(found, PackLabels):
            return PrefixLabels(found, rows_of(found.pack, images))
        assert isinstance(found, HardLabels)
        return HardLabels(images.decoded_labels, len(images.classes), found.one_hot.device)

    return replace(
        whole,
        kind=f"{whole.kind} {ipc}",
        name=f"{whole.name}, first {ipc}",
        images=images,
        labels=labels,
        image_bytes=weighed(images, folder),
        size=ipc,
    )


def contender_of(run: Run, kind: str, images: ImageSet, teachers: dict[str, Teacher], folder: Path) -> Contender:
    """Images with labels that `softlabels` and `compression` of params.yaml ask for; hard ones without teachers.

    `folder` keeps what is made: a killed run goes on there, and a finished one reads its pack. The uncompressed labels
    are removed once they are packed, for of many contenders they would fill the disk.
    """
    hard = hard_contender(run, kind, images, folder)
    if not teachers:
        return hard
    path = folder / "labels.safetensors"
    if not path.exists():
        pack_into(path, run, labels_of(run, images, teachers, folder), run.params.compression)
        shutil.rmtree(folder / "labels.zarr")
    pack = store.read_pack(path, images.decoded_ids)
    return replace(hard, name=f"{kind}, {pack.codec}", labels=packed(pack, run.device), label_bytes=pack.n_bytes)


def labels_of(run: Run, images: ImageSet, teachers: dict[str, Teacher], folder: Path) -> SoftLabels:
    """Uncompressed soft labels of any images, decoded where they are grids, written to `labels.zarr` in `folder`, where
    a killed run goes on."""
    block, images = run.params.softlabels, multiformation.decoded(images)
    blocks = write_labels(run, folder, images, teachers)
    policy = block.augmentation.policy(block.seed, block.mix)
    return SoftLabels(blocks.array, policy, images.ids, images.classes, tuple(teachers))


def pack_into(path: Path, run: Run, labels: SoftLabels, block: CompressionBlock) -> None:
    """Labels to a pack at `path`; a killed run goes on with the blocks beside it. `BudgetError` leaves no pack."""
    encoded = path.with_suffix(".blocks")
    encoded.mkdir(exist_ok=True)
    try:
        store.save_pack(path, compress(run, labels, block, encoded))
    except BudgetError:
        shutil.rmtree(encoded)
        raise
    shutil.rmtree(encoded)


def uncompressed(run: Run, labels: SoftLabels, notes: Path) -> LabelPack:
    """The fp16 labels as a pack, written once to measure its bytes on disk."""
    pack = compress(run, labels, CompressionBlock(codec="none"), notes)
    path = notes / "uncompressed.safetensors"
    if not path.exists():
        store.save_pack(path, pack)
    return store.read_pack(path, labels.ids)


def protocol_of(block: EvaluationBlock, labels: SoftLabelsBlock | None = None) -> students.Protocol:
    """How students are trained: the protocol that `block` names, with what params.yaml changes. Its name tells the
    changes, also of views where `labels` say how these are drawn."""
    chosen = block.model_dump(include={field.name for field in fields(training.Recipe)})
    recipe = training.Recipe(**chosen | {"milestones": tuple(block.milestones)})
    views = None if labels is None else {**labels.augmentation.model_dump(), "mix": labels.mix}
    best = "" if block.best_of == 1 else f"; best of {block.best_of} tests on test"
    return students.Protocol(
        protocols.told(block, views) + best,
        block.student,
        recipe,
        block.batch_size,
        block.temperature,
        block.loss,
        block.gamma,
        block.best_of,
    )


def one_score(
    run: Run,
    contender: Contender,
    protocol: students.Protocol,
    train: ImageTable,
    test: ImageTable,
    seed: int,
    notes: Path,
) -> dict[str, Any]:
    """Train one student and test it, after the last epoch or as often as the protocol says."""
    stem = f"{contender.name}-{seed}".replace("/", "-").replace(" ", "-")
    checkpoint = notes / f"{stem}.pt"
    labels = contender.labels()
    dataset = CondensedDataset(
        contender.images,
        labels,
        contender.policy,
        temperature=protocol.asks(labels),
        size=train.size,
        device=run.device,
    )

    def accuracy(student: nn.Module) -> float:
        batches = teacher.plain_batches(read_parts(test), train.mean, train.std, 512, run.device)
        return training.accuracy(student, batches, run.device)

    _, history = students.train_student(
        dataset,
        protocol,
        n_classes=len(train.classes),
        mean=train.mean,
        std=train.std,
        seed=seed,
        device=run.device,
        checkpoint=checkpoint,
        report=lambda row: run.reporter.progress(
            f"student {contender.name} {seed}", int(row["epoch"]) + 1, protocol.recipe.epochs
        ),
        test=accuracy,
    )
    checkpoint.unlink(missing_ok=True)
    return {"accuracy": max(row["accuracy"] for row in history if "accuracy" in row), "history": history}
