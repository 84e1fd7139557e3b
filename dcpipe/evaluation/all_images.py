"""The upper bound of a table: the student's network, trained on all train images instead of a condensed set.

It learns from the classes of the images, by the recipe of `teacher.training` in params.yaml, because the protocols of
condensed sets are made for few images and many epochs. What a set scores below it is what condensing has cost.

The same recipe for fewer epochs, so that no more images are seen than by the students of the set, is another row with
another name (`AT_COMPUTE`): at its own best and at equal compute are two questions ("Hard Truths", arXiv 2604.18811,
gives all images the compute of the set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcpipe import store, teacher, training
from dcpipe.config.params import Params
from dcpipe.images.kept import read_kept
from dcpipe.shards import progress
from dcpipe.store.image_index import encoded_bytes
from dcpipe.teacher.jobs import Job
from dcpipe.training import Recipe
from dcpipe.types import ALL_IMAGES_PROTOCOL, ImageTable, Score

KIND, AT_COMPUTE = "all_images", "all_images_at_compute"
NAME = "all training images"
NAMES = {KIND: NAME, AT_COMPUTE: f"{NAME}, equal compute"}
LOSS = "cross-entropy"  # of everything that learns from classes


@dataclass(frozen=True)
class AllImages:
    """A training on the train split that students of several seeds share: the training, whose seed and checkpoint each
    student has for itself; the split that students are tested on; the folder of checkpoints; and which of `NAMES`."""

    training: Job
    split: str
    folder: str
    kind: str = KIND

    @property
    def name(self) -> str:
        """The name of the row."""
        return NAMES[self.kind]

    def score(self, seed: int) -> dict[str, Any]:
        """Train one student, or continue from its checkpoint, and test it after the last epoch. Returns `accuracy` in
        percent and `history`, one row per epoch."""
        folder, device = Path(self.folder), torch.device(self.training.device)
        checkpoint = folder / f"{self.kind}-{seed}.pt"
        job = replace(self.training, seed=seed, checkpoint=str(checkpoint))
        assert job.recipe is not None
        title, epochs = f"student {self.name} {seed}", job.recipe.epochs
        progress.report(title, 0, epochs)
        network, history = job.train(lambda row: progress.epoch(title, row, epochs))
        accuracy = self._accuracy(network, folder, device)
        history[-1]["accuracy"] = accuracy
        checkpoint.unlink(missing_ok=True)
        return {"accuracy": accuracy, "history": history}

    def _accuracy(self, network: nn.Module, folder: Path, device: torch.device) -> float:
        test = store.table_of(self.training.images.open(), self.split)
        batches = teacher.plain_batches(
            read_kept(test, folder), self.training.mean, self.training.std, self.training.batch_size, device
        )
        return training.accuracy(network, batches, device)


def epochs_at_compute(images_seen: int, train: ImageTable) -> int:
    """The epochs in which no more than so many images are seen; 0 if that is less than one."""
    return images_seen // len(train)


def training_of(
    params: Params,
    train: ImageTable,
    test: ImageTable,
    folder: Path,
    device: torch.device,
    kind: str = KIND,
    epochs: int | None = None,
) -> AllImages:
    """The training of the student's network on the images of an artifact, by the block `teacher.training`, for `epochs`
    instead of its own number if they are given."""
    block, images = params.teacher.training, store.Verified.images(train)
    assert images is not None and test.origin is not None, "these tables are not on disk"
    job = Job(
        network=params.evaluation.student,
        weights=None,
        head=None,
        input_size=None,
        images=images,
        policy=block.augmentation.policy(block.seed),
        recipe=Recipe(
            epochs or block.epochs,
            block.optimizer,
            block.lr,
            block.weight_decay,
            zeta=block.zeta,
            precision=block.precision,
        ),
        batch_size=block.batch_size,
        sync_batchnorm=block.sync_batchnorm,
        seed=block.seed,
        mean=train.mean,
        std=train.std,
        checkpoint="",
        device=str(device),
        full_crops=block.crops == "full",
    )
    return AllImages(job, test.origin[2], str(folder.absolute()), kind)


def score_of(outcomes: Sequence[Mapping[str, Any]], params: Params, train: ImageTable) -> Score:
    """The row of the table, from the results of its students, one per seed. `ipc` is the mean number of images per
    class, rounded down; the bytes are those of the encoded train images."""
    return Score(
        name=NAME,
        protocol=ALL_IMAGES_PROTOCOL,
        student=params.evaluation.student,
        ipc=len(train) // len(train.classes),
        accuracy=tuple(outcome["accuracy"] for outcome in outcomes),
        image_bytes=encoded_bytes(train),
        label_bytes=0,
        epochs=params.teacher.training.epochs,
    )
