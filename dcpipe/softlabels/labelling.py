"""The soft labels of a block of images: teacher logits of each of their views.

Logits are stored, not probabilities, because the student chooses the temperature. With `cutmix_images` the teacher sees
the mixed view. With `cutmix_labels` it sees clean views; their labels are mixed in training and compress far better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dcpipe import views
from dcpipe.networks import each_logits, equal_norms, mean_logits
from dcpipe.types import IntArray, Teacher, ViewPolicy, check_logits


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
    scales: Sequence[float] | None = None,
) -> npt.NDArray[np.float16]:
    """Logits fp16 [len(rows), n_views, c] of every view of some rows of a set.

    `images` u8 [n, h, w, 3] is the whole set on the device, because CutMix partners come from it; `ids` i64 [n] are its
    ids. The views go through the teachers image by image and view by view, in batches of `batch_size`, so memory
    depends neither on `n_views` nor on n. `scales`: what the logits of each teacher are multiplied by. Raises
    `DataError` for logits that fp16 cannot store.
    """
    labelling_policy = policy.labelling
    flat_rows = np.repeat(rows, n_views)
    flat_views = np.tile(np.arange(n_views, dtype=np.int64), len(rows))
    logits = []
    for start in range(0, len(flat_rows), batch_size):
        span = slice(start, start + batch_size)
        inputs, _ = views.render(images, labelling_policy, ids, flat_rows[span], flat_views[span], size)
        logits.append(mean_logits(models, teachers, inputs, scales).to(torch.float16))
    # One copy to the host per block, so that the GPU never waits within a block.
    labels: npt.NDArray[np.float16] = torch.cat(logits).reshape(len(rows), n_views, -1).cpu().numpy()
    check_logits(labels, ids[rows], rows)
    return labels


def equal_scales(
    models: list[nn.Module],
    teachers: list[Teacher],
    images: torch.Tensor,
    ids: IntArray,
    *,
    policy: ViewPolicy,
    size: int,
    batch_size: int,
) -> list[float]:
    """What the logits of each teacher are multiplied by so that all have the same norm, that of their mean.

    The norm of a teacher is that of its logits for view 0 of all images, so that a label depends neither on its batch
    nor on its block. Other arguments are those of `label_block`.
    """
    squares = torch.zeros(len(models), dtype=torch.float64, device=images.device)
    for start in range(0, len(ids), batch_size):
        rows = np.arange(start, min(start + batch_size, len(ids)))
        inputs, _ = views.render(images, policy.labelling, ids, rows, np.zeros_like(rows), size)
        for number, logits in enumerate(each_logits(models, teachers, inputs)):
            squares[number] += logits.double().square().sum()
    scales: list[float] = equal_norms(squares.sqrt()).tolist()
    return scales
