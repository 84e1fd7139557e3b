"""Soft labels to a pack that fits a budget, block by block: for the stage `compression` and for imported labels.

A block of images is encoded at a time and noted on disk, so that no store is held whole and a killed run goes on.
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
from dcpipe.types import IntArray, LabelPack, LabelShape, SoftLabels, StoredViews, ViewSource, require
from dcpipe.views import views_of

BLOCK_BYTES = 96 * 2**20
_ANY_HEADER = 2**16

Arrays = Mapping[str, np.ndarray[Any, Any]]
Encode = Callable[[int], Arrays]


def plan(name: str, options: Mapping[str, Any], shape: LabelShape, policy: ViewSource, budget: int | None) -> Codec:
    """The codec `name` with settings that keep the file within `budget` bytes, header included; None: within those of
    the reference and any header.

    The parameters of kept views come on top: no codec compresses them, and they weigh the same whatever it is. Raises
    `BudgetError` for a budget that the codec does not reach, and `DataError` for options that are wrong, for a codec
    that would show views beyond those kept, and for one that cannot serve the mix.
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
        f"codec {name!r} would show fresh views, but these were taken elsewhere and only {shape.views} of an image are "
        "known; leave option fresh out",
    )
    return codec


def file_bytes(name: str, codec: Codec, shape: LabelShape, policy: ViewSource) -> int:
    """Bytes of the file that a planned codec makes, but for the parameters of kept views."""
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
    """The pack of some labels. Encoded blocks are kept in `notes`, where a killed run finds them.

    `each(encode, starts)` calls `encode` of every first row in `starts` and returns the results in that order.
    """
    n, k, c = labels.logits.shape
    shape = LabelShape(n, k, c)
    if name == "none":  # its one array is the store itself, copied block by block into the file
        return LabelPack(name, codec.settings, {"logits": labels.logits}, shape, labels.policy, labels.ids)
    rows_each = max(1, min(BLOCK_BYTES // (4 * k * c), -(-n // 8)))

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
    logits = torch.from_numpy(np.asarray(labels.logits[rows[0] : rows[-1] + 1])).to(device).float()
    numbers = np.tile(np.arange(shape.views, dtype=np.int64), len(rows))
    taken = views_of(labels.policy.labelling, labels.ids).parameters(np.repeat(rows, shape.views), numbers)
    return codec.encode(logits, rows, shape, taken)
