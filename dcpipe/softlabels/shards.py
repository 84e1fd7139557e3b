"""The parallel part of soft labels: one shard of the label store, which holds a block of images in all their views."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dcpipe import networks, store
from dcpipe.shards import opened
from dcpipe.softlabels.labelling import equal_scales, label_block
from dcpipe.types import Ensemble, ImageSet, Teacher, ViewPolicy
from dcpipe.views import multiformation


@dataclass(frozen=True)
class Job:
    """What all shards have in common: the files of the images and of the teachers, the views, the label store with the
    rows of its shards, the device, and how the logits of several teachers are averaged."""

    images: store.SetFile
    teachers: tuple[store.Verified, ...]
    policy: ViewPolicy
    batch_size: int
    labels: str
    shape: tuple[int, int, int]
    rows: int
    device: str
    ensemble: Ensemble = "mean"


@dataclass(frozen=True, eq=False)
class Work:
    """An open job. One thread computes at a time, while another one writes."""

    images: ImageSet
    pixels: torch.Tensor
    teachers: list[Teacher]
    models: list[nn.Module]
    labels: store.Blocks
    policy: ViewPolicy
    batch_size: int
    scales: Sequence[float] | None = None
    computing: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        labels: store.Blocks,
        images: ImageSet,
        teachers: Mapping[str, Teacher],
        policy: ViewPolicy,
        batch_size: int,
        device: torch.device,
        ensemble: Ensemble = "mean",
    ) -> Work:
        """Put images and networks on the device. Raises `DataError` for teachers that do not fit the images."""
        networks.check_teachers(dict(teachers), images.classes, images.images.shape[1])
        models = [networks.from_teacher(teacher, device) for teacher in teachers.values()]
        pixels, given, scales = torch.from_numpy(images.images).to(device), list(teachers.values()), None
        if ensemble == "equal_norms":
            seen = {"policy": policy, "size": images.images.shape[1], "batch_size": batch_size}
            scales = equal_scales(models, given, pixels, images.ids, **seen)
        return cls(images, pixels, given, models, labels, policy, batch_size, scales)

    def write(self, shard: int) -> None:
        """Compute one shard and write it."""
        span = self.labels.span(shard)
        with self.computing:
            values = label_block(
                self.models,
                self.teachers,
                self.pixels,
                self.images.ids,
                np.arange(span.start, span.stop),
                policy=self.policy,
                n_views=int(self.labels.array.shape[1]),
                size=self.images.images.shape[1],
                batch_size=self.batch_size,
                scales=self.scales,
            )
        self.labels.write(shard, values)


@opened
def work_of(job: Job) -> Work:
    """Open a job."""
    teachers = {artifact.path: store.teacher_of(artifact.open()) for artifact in job.teachers}
    images = multiformation.decoded(job.images.read())
    labels = store.create_blocks(Path(job.labels), job.shape, "float16", rows=job.rows)
    return Work.of(labels, images, teachers, job.policy, job.batch_size, torch.device(job.device), job.ensemble)


def write_shard(job: Job, shard: int) -> None:
    """Compute one shard of the labels and write it."""
    work_of(job).write(shard)
