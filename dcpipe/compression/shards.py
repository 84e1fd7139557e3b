"""The parallel part of a pack: one block of images is encoded at a time and saved on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dcpipe import store
from dcpipe.compression import CODECS, Codec
from dcpipe.shards import opened
from dcpipe.store.files import replacing
from dcpipe.types import IntArray, LabelShape, SoftLabels, ViewPolicy, check_logits
from dcpipe.views import views_of

Arrays = Mapping[str, np.ndarray[Any, Any]]
IDS = "ids.npy"


@dataclass(frozen=True)
class Job:
    """What all blocks have in common: the label store, how its views are drawn, the codec with its settings (as JSON),
    the images per block, the folder of encoded blocks with the ids of the images, and the device."""

    labels: str
    policy: ViewPolicy
    codec: str
    settings: str
    rows: int
    folder: str
    device: str


@dataclass(frozen=True, eq=False)
class Work:
    """An open job."""

    codec: Codec
    labels: SoftLabels
    rows: int
    folder: Path
    device: torch.device

    def encode(self, start: int) -> Arrays:
        """The encoded block of the images from row `start` on, which is read if an earlier run has saved it."""
        done, shape = self.folder / f"{start:08d}.safetensors", LabelShape(*self.labels.logits.shape)
        if done.exists():
            return load_file(done)
        rows = np.arange(start, min(start + self.rows, shape.images))
        logits = torch.from_numpy(checked(self.labels, rows)).to(self.device).float()
        numbers = np.tile(np.arange(shape.views, dtype=np.int64), len(rows))
        views = views_of(self.labels.policy.labelling, self.labels.ids)
        arrays = self.codec.encode(logits, rows, shape, views.parameters(np.repeat(rows, shape.views), numbers))
        with replacing(done) as partial:
            # safetensors writes the memory of an array as it lies there, so a transposed one would come back scrambled.
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
        return arrays


@opened
def work_of(job: Job) -> Work:
    """Open a job."""
    logits, ids = store.open_blocks(Path(job.labels)), np.load(Path(job.folder) / IDS, allow_pickle=False)
    # Codecs look at views and logits alone, so neither classes nor teachers matter.
    labels = SoftLabels(logits, job.policy, ids, tuple(map(str, range(logits.shape[2]))), ())
    codec = CODECS[job.codec](**json.loads(job.settings))
    return Work(codec, labels, job.rows, Path(job.folder), torch.device(job.device))


def save_block(job: Job, start: int) -> None:
    """Encode a block and save it, from where the process that joins the blocks reads it."""
    work_of(job).encode(start)


def job_of(name: str, work: Work) -> Job | None:
    """The job of some work for other processes, which needs labels in a store on disk and views that are drawn from a
    seed; None for others."""
    path, policy = store.array_path(work.labels.logits), work.labels.policy
    if path is None or not isinstance(policy, ViewPolicy):
        return None
    with replacing(work.folder / IDS) as partial, partial.open("wb") as stream:
        np.save(stream, work.labels.ids, allow_pickle=False)
    settings = json.dumps(work.codec.settings)
    return Job(str(path), policy, name, settings, work.rows, str(work.folder.absolute()), str(work.device))


def checked(labels: SoftLabels, rows: IntArray) -> np.ndarray[Any, Any]:
    """The logits of consecutive images. Raises `DataError` for NaN and infinity, naming the image."""
    logits = np.asarray(labels.logits[rows[0] : rows[-1] + 1])
    check_logits(logits, labels.ids[rows], rows)
    return logits
