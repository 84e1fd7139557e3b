"""Soft labels: teacher logits of K views of every condensed image (FKD, Shen & Xing, ECCV 2022; SCORE, Eq. 1).

* `labelling.py`  the labels of a block of images
* `shards.py`     one shard of a label store, on any worker
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from dcpipe import store
from dcpipe.softlabels import shards
from dcpipe.softlabels.labelling import label_block
from dcpipe.types import Ensemble, ImageSet, Map, Teacher, ViewPolicy, require

__all__ = ["fill", "label_block", "shape_of"]


def shape_of(images: ImageSet, n_views: int) -> tuple[int, int, int]:
    """(images, views, classes) of the labels of a set. Raises `DataError` for a set that is not decoded, and if the
    disk has not enough space for the labels in fp16."""
    require(images.grid == 1, f"soft labels need decoded images, but these have grid {images.grid}; decode them first")
    shape = (len(images), n_views, len(images.classes))
    store.need_space(2 * int(np.prod(shape)), f"soft labels {list(shape)} in fp16")
    return shape


def fill(
    labels: store.Blocks,
    images: ImageSet,
    teachers: Mapping[str, Teacher],
    *,
    policy: ViewPolicy,
    batch_size: int,
    device: torch.device,
    map_tasks: Map,
    file: store.SetFile | None = None,
    ensemble: Ensemble = "mean",
) -> None:
    """Fill an array of shape `shape_of` with the labels of a set, one task per shard. Shards that an earlier run has
    written are left as they are.

    Two tasks run at a time: while one writes, the other computes. If `file` is where the images are on disk, and the
    teachers are on disk too, the tasks may run on workers. `ensemble`: `mean` logits of the teachers, or `equal_norms`,
    where those of all teachers have the same norm first (`labelling.equal_scales`). Raises `DataError` for teachers
    with other classes or of another image size, and for logits that fp16 cannot store.
    """
    work = shards.Work.of(labels, images, teachers, policy, batch_size, device, ensemble)
    stored, write = store.Verified.teachers(teachers.values()), work.write
    if file is not None and stored is not None:
        path, shape = str(labels.path.absolute()), labels.array.shape
        job = shards.Job(file, stored, policy, batch_size, path, shape, labels.rows, str(device), ensemble)
        shards.work_of.put(work, job)
        write = partial(shards.write_shard, job)
    map_tasks(write, labels.missing(), "softlabels[{:05d}]".format, retries=2, workers=2, progress="softlabels")
    shards.work_of.forget()
