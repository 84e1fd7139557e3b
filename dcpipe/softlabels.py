"""Soft labels: teacher logits of K views of every condensed image (FKD, Shen & Xing, ECCV 2022; SCORE, Eq. 1).

Logits are stored, not probabilities, because the student chooses the temperature. With `cutmix_images` the teacher sees
the mixed view. With `cutmix_labels` it sees clean views; their labels are mixed in training and compress far better.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dcpipe import networks, store, views
from dcpipe.networks import mean_logits
from dcpipe.types import ImageSet, IntArray, Map, Teacher, ViewPolicy, check_logits, require


def label_block(
    models: list[nn.Module],
    teachers: list[Teacher],
    images: torch.Tensor,
    ids: IntArray,
    rows: IntArray,
    *,
    policy: ViewPolicy,
    n_views: int,
    size: int,
    batch_size: int,
) -> npt.NDArray[np.float16]:
    """Logits fp16 [len(rows), n_views, c] of every view of some rows of a set.

    `images` u8 [n, h, w, 3] is the whole set on the device, because CutMix partners come from it; `ids` i64 [n] are its
    ids. The views go through the teachers image by image and view by view, in batches of `batch_size`, so memory
    depends neither on `n_views` nor on n. Raises `DataError` for logits that fp16 cannot store.
    """
    labelling_policy = policy.labelling
    flat_rows = np.repeat(rows, n_views)
    flat_views = np.tile(np.arange(n_views, dtype=np.int64), len(rows))
    logits = []
    for start in range(0, len(flat_rows), batch_size):
        span = slice(start, start + batch_size)
        inputs, _ = views.render(images, labelling_policy, ids, flat_rows[span], flat_views[span], size)
        logits.append(mean_logits(models, teachers, inputs).to(torch.float16))
    # One copy to the host per block, so that the GPU never waits within a block.
    labels: npt.NDArray[np.float16] = torch.cat(logits).reshape(len(rows), n_views, -1).cpu().numpy()
    check_logits(labels, ids[rows], rows)
    return labels


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
) -> None:
    """Fill an array of shape `shape_of` with the labels of a set, one task per shard. Shards that an earlier run has
    written are left as they are.

    Two tasks run at a time: while one writes, the other computes. Raises `DataError` for teachers with other classes or
    of another image size, and for logits that fp16 cannot store.
    """
    size, n_views = images.images.shape[1], int(labels.array.shape[1])
    networks.check_teachers(dict(teachers), images.classes, size)
    models = [networks.from_teacher(teacher, device) for teacher in teachers.values()]
    pixels = torch.from_numpy(images.images).to(device)
    computing = threading.Lock()

    def label(shard: int) -> None:
        span = labels.span(shard)
        with computing:
            values = label_block(
                models,
                list(teachers.values()),
                pixels,
                images.ids,
                np.arange(span.start, span.stop),
                policy=policy,
                n_views=n_views,
                size=size,
                batch_size=batch_size,
            )
        labels.write(shard, values)

    map_tasks(label, labels.missing(), lambda s: f"softlabels[{s:05d}]", retries=2, workers=2, progress="softlabels")
