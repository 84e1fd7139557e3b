"""The training of a stage as a description: plain values and the names of files, which another process can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import nn

from dcpipe import store, teacher
from dcpipe.training import ALONE, Group, Recipe
from dcpipe.types import Colour, Head, ViewPolicy

Outcome = tuple[nn.Module, list[dict[str, float]]]


@dataclass(frozen=True)
class Job:
    """One training. `images` is the artifact whose train split is trained on, `device` the kind of device (`cpu`,
    `cuda`), or one of them (`cuda:1`), and `full_crops` whether whole images are cropped; for the others see
    `teacher.train`."""

    network: str
    weights: str | None
    head: Head | None
    input_size: int | None
    images: store.Verified
    policy: ViewPolicy
    recipe: Recipe | None
    batch_size: int
    sync_batchnorm: bool
    seed: int
    mean: Colour
    std: Colour
    checkpoint: str
    device: str
    full_crops: bool = False

    def to_json(self) -> str:
        """The job as a JSON text."""
        return TypeAdapter(Job).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> Job:
        """The job of such a text."""
        return TypeAdapter(Job).validate_json(text)

    def check(self, processes: int) -> None:
        """Raises `DataError` if so many processes cannot share the batches of this job."""
        teacher.check_shares(store.table_of(self.images.open(), "train"), self.batch_size, processes, self.full_crops)

    def train(
        self,
        report: Callable[[dict[str, float]], None] = lambda row: None,
        group: Group = ALONE,
        device: torch.device | None = None,
    ) -> Outcome:
        """Train the network, or continue from the checkpoint; `device` is that of this process in a group."""
        table, device = store.table_of(self.images.open(), "train"), device or torch.device(self.device)
        return teacher.train(
            self.network,
            self.weights,
            teacher.feed_of(table, self.batch_size, self.seed, device, group, self.policy if self.full_crops else None),
            policy=self.policy,
            recipe=self.recipe,
            classes=table.classes,
            size=table.size,
            mean=self.mean,
            std=self.std,
            seed=self.seed,
            device=device,
            head=self.head,
            input_size=self.input_size,
            checkpoint=Path(self.checkpoint),
            report=report,
            group=group,
            sync_batchnorm=self.sync_batchnorm,
            full_crops=self.full_crops,
        )
