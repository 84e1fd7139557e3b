"""Packs soft labels into a budget, block by block: for the stage `compression` and for imported labels.

One block of images is encoded at a time and saved on disk, so that not all labels are in memory at once and a killed
run can resume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dcpipe import compression, store
from dcpipe.compression import CODECS, Codec
from dcpipe.config.options import check_options
from dcpipe.store.files import replacing
from dcpipe.types import IntArray, LabelPack, LabelShape, SoftLabels, StoredViews, ViewSource, check_logits, require
from dcpipe.views import views_of

BLOCK_BYTES = 96 * 2**20
_ANY_HEADER = 2**16

Arrays = Mapping[str, np.ndarray[Any, Any]]
Encode = Callable[[int], Arrays]


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


def pack(
    name: str,
    codec: Codec,
    labels: SoftLabels,
    notes: Path,
    device: torch.device,
    each: Callable[[Encode, Sequence[int]], Sequence[Arrays]],
) -> LabelPack:
    """The pack of some labels. Encoded blocks are saved in `notes`, from which a killed run resumes.

    `each(encode, starts)` calls `encode` for every first row in `starts` and returns the results in that order. Raises
    `DataError` for labels that contain NaN or infinity, naming the image.
    """
    n, k, c = labels.logits.shape
    shape = LabelShape(n, k, c)
    rows_each = max(1, min(BLOCK_BYTES // (4 * k * c), -(-n // 8)))
    if name == "none":  # its only array is the label store, which is copied block by block into the file
        for start in range(0, n, rows_each):
            _checked(labels, np.arange(start, min(start + rows_each, n)))
        return LabelPack(name, codec.settings, {"logits": labels.logits}, shape, labels.policy, labels.ids)

    def encode(start: int) -> Arrays:
        done = notes / f"{start:08d}.safetensors"
        if done.exists():
            return load_file(done)
        arrays = _encode(codec, labels, shape, np.arange(start, min(start + rows_each, n)), device)
        with replacing(done) as partial:
            save_file(dict(arrays), partial)
        return arrays

    blocks = each(encode, range(0, n, rows_each))
    return LabelPack(name, codec.settings, compression.join(blocks), shape, labels.policy, labels.ids)


def _encode(codec: Codec, labels: SoftLabels, shape: LabelShape, rows: IntArray, device: torch.device) -> Arrays:
    logits = torch.from_numpy(_checked(labels, rows)).to(device).float()
    numbers = np.tile(np.arange(shape.views, dtype=np.int64), len(rows))
    views = views_of(labels.policy.labelling, labels.ids).parameters(np.repeat(rows, shape.views), numbers)
    return codec.encode(logits, rows, shape, views)


def _checked(labels: SoftLabels, rows: IntArray) -> np.ndarray[Any, Any]:
    """The logits of consecutive images; raises `DataError` for NaN and infinity."""
    logits = np.asarray(labels.logits[rows[0] : rows[-1] + 1])
    check_logits(logits, labels.ids[rows], rows)
    return logits
