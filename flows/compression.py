"""compression: soft labels to a pack that fits the budget; its bytes are those of the file on disk.

Tasks: one a block of images. Output: data/compression/labels.safetensors (nothing but a note for hard labels).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dcpipe import compression, store, views
from dcpipe.compression import CODECS, Codec
from dcpipe.params import CompressionBlock, check_options
from dcpipe.types import LabelPack, LabelShape, Sliceable, SoftLabels, ViewPolicy
from flows.runtime import Run, main

BLOCK_BYTES = 96 * 2**20


def compression_stage(run: Run) -> None:
    """Plan, encode what is missing, join, measure, publish."""
    block = run.params.compression
    source = store.open_artifact(Path("data/softlabels"), "softlabels")
    with run.bench("data/compression", block.model_dump(mode="json"), {"softlabels": source}) as bench:
        if source.meta["method"] == "none":
            bench.publish("compression", {"codec": "none", "hard": True})
            return
        labels = store.load_soft_labels(source.path)
        pack = compress(run, labels, block, bench.notes)
        size = store.save_pack(bench.root / "labels.safetensors", pack)
        reference = pack.shape.reference_bytes
        row = {"codec": pack.codec, "file bytes": size, "fp16 reference bytes": reference, "ratio": reference / size}
        run.reporter.table("bytes", [{**row, **pack.settings}])
        print(f"compression: {pack.codec} {pack.settings}: {size:,} bytes; fp16 reference {reference:,}")
        bench.publish("compression", {"codec": pack.codec, "hard": False, "bytes": size, "fp16_bytes": reference})


def plan(block: CompressionBlock, shape: LabelShape, policy: ViewPolicy) -> Codec:
    """The codec with settings that keep the whole file within the budget."""
    check_options("codec", block.codec, {name: codec.plan for name, codec in CODECS.items()}, block.options)

    def header(codec: Codec) -> int:
        metadata = store.pack_metadata(block.codec, codec.settings, shape, policy)
        return len(store.header_bytes(codec.specs(shape), metadata))

    if block.bytes_per_image is not None:
        budget = int(block.bytes_per_image * shape.images)
    elif block.ratio is not None:
        budget = int(shape.reference_bytes / block.ratio)
    else:  # only for `none`, which needs no budget: the reference and any header
        budget = shape.reference_bytes + 2**16
    codec = compression.plan(CODECS[block.codec], shape, budget, block.options, header)
    compression.check_mix(block.codec, codec, shape, policy.mix)
    return codec


def compress(run: Run, labels: SoftLabels, block: CompressionBlock, notes: Path) -> LabelPack:
    """The pack of some labels; encoded blocks are kept in `notes`, where a killed run finds them."""
    n, k, c = labels.logits.shape
    shape = LabelShape(n, k, c)
    codec = plan(block, shape, labels.policy)
    if block.codec == "none":  # its one array is the store itself, copied block by block into the file
        return LabelPack(block.codec, codec.settings, {"logits": labels.logits}, shape, labels.policy, labels.ids)
    rows_each = max(1, min(BLOCK_BYTES // (4 * k * c), -(-n // 8)))
    starts = list(range(0, n, rows_each))
    seen = labels.policy.labelling

    def encode(start: int) -> Mapping[str, np.ndarray[Any, Any]]:
        done = notes / f"{start:08d}.safetensors"
        if done.exists():
            return load_file(done)
        rows = np.arange(start, min(start + rows_each, n))
        logits = torch.from_numpy(np.asarray(labels.logits[start : start + rows_each])).to(run.device).float()
        numbers = np.tile(np.arange(k, dtype=np.int64), len(rows))
        drawn = views.draw(seen, np.repeat(labels.ids[rows], k), numbers, n)
        arrays = codec.encode(logits, rows, shape, drawn)
        beside = done.with_suffix(".partial")
        save_file(arrays, beside)
        beside.replace(done)
        return arrays

    blocks = run.map(encode, starts, lambda s: f"compress[{s:08d}]", retries=2, progress="compress")
    arrays: Mapping[str, Sliceable] = compression.join(blocks)
    return LabelPack(block.codec, codec.settings, dict(arrays), shape, labels.policy, labels.ids)


if __name__ == "__main__":
    main(compression_stage, "compression")
