"""Packs soft labels into a budget, block by block: for the stage `compression` and for imported labels.

One block of images is encoded at a time and saved on disk, so that not all labels are in memory at once and a killed
run can resume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe import compression, store
from dcpipe.compression import CODECS, Codec
from dcpipe.compression.shards import Work, checked, job_of, save_block, work_of
from dcpipe.config.options import check_options
from dcpipe.types import LabelPack, LabelShape, SoftLabels, StoredViews, ViewSource, require

BLOCK_BYTES = 96 * 2**20
_ANY_HEADER = 2**16
Encode = Callable[[int], object]


def plan(name: str, options: Mapping[str, Any], shape: LabelShape, policy: ViewSource, budget: int | None) -> Codec:
    """The codec `name` with settings that keep the file within `budget` bytes, including its header. None stands for
    the size of the reference plus any header.

    The parameters of stored views are not part of the budget, because no codec compresses them and their size is the
    same for all codecs. Raises `BudgetError` for a budget that is too small for the codec, and `DataError` for wrong
    options, for a codec that would use views beyond the stored ones, and for one that does not support the mix.
    """
    check_options(CODECS, name, options)
    budget = shape.reference_bytes + _ANY_HEADER if budget is None else budget
    codec = compression.plan(
        CODECS[name], shape, budget, options, lambda codec: _header_bytes(name, codec, shape, policy)
    )
    compression.check_mix(name, codec, shape, policy.mix)
    fresh = bool((codec.replay(shape.views, shape)[1] >= shape.views).any())
    require(
        not (fresh and isinstance(policy, StoredViews)),
        f"codec {name!r} would use new views, but views are stored and there are only {shape.views} per image; "
        "leave option fresh out",
    )
    return codec


def file_bytes(name: str, codec: Codec, shape: LabelShape, policy: ViewSource) -> int:
    """Size of the file of a planned codec, without the parameters of stored views."""
    return _header_bytes(name, codec, shape, policy) + compression.payload(codec.specs(shape))


def _header_bytes(name: str, codec: Codec, shape: LabelShape, policy: ViewSource) -> int:
    metadata = store.pack_metadata(name, codec.settings, shape, policy)
    return len(store.header_bytes({**codec.specs(shape), **store.view_specs(policy)}, metadata))


def block_rows(shape: LabelShape) -> int:
    """Images per block: at least about eight blocks, so that the work on few images can resume too."""
    return max(1, min(BLOCK_BYTES // (4 * shape.views * shape.classes), -(-shape.images // 8)))


def pack(
    name: str,
    codec: Codec,
    labels: SoftLabels,
    notes: Path,
    device: torch.device,
    each: Callable[[Encode, Sequence[int]], object],
) -> LabelPack:
    """The pack of some labels. Encoded blocks are saved in `notes`, from which a killed run resumes.

    `each(encode, starts)` calls `encode` for every first row in `starts`, in any order or process. Raises `DataError`
    for labels that contain NaN or infinity, naming the image.
    """
    n, k, c = labels.logits.shape
    shape = LabelShape(n, k, c)
    rows_each = block_rows(shape)
    if name == "none":  # its only array is the label store, which is copied block by block into the file
        for start in range(0, n, rows_each):
            checked(labels, np.arange(start, min(start + rows_each, n)))
        return LabelPack(name, codec.settings, {"logits": labels.logits}, shape, labels.policy, labels.ids)

    work = Work(codec, labels, rows_each, notes, device)
    starts, job = range(0, n, rows_each), job_of(name, work)
    if job is None:
        each(work.encode, starts)
    else:
        work_of.put(work, job)
        each(partial(save_block, job), starts)
        work_of.forget()
    blocks = [work.encode(start) for start in starts]  # all are saved
    return LabelPack(name, codec.settings, compression.join(blocks), shape, labels.policy, labels.ids)
