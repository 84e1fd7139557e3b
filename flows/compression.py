"""compression: soft labels to a pack that fits the budget; its bytes are those of the file on disk.

Tasks: one a block of images. Output: data/compression/labels.safetensors (nothing but a note for hard labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dcpipe import store
from dcpipe.compression import Codec, packing
from dcpipe.config.params import CompressionBlock
from dcpipe.types import LabelPack, LabelShape, SoftLabels, ViewLaw
from flows.running.runtime import Run, main


def compression_stage(run: Run) -> None:
    """Plan, encode what is missing, join, measure, publish."""
    block = run.params.compression
    source = store.open_artifact(Path("data/softlabels"), "softlabels")
    with run.staging("data/compression", block.model_dump(mode="json"), {"softlabels": source}) as staging:
        if source.meta["method"] == "none":
            staging.publish("compression", {"codec": "none", "hard": True})
            return
        labels = store.load_soft_labels(source.path)
        pack = compress(run, labels, block, staging.notes)
        size = store.save_pack(staging.root / "labels.safetensors", pack)
        report(run, pack, size, block.bytes_of(pack.shape), source.meta.get("teacher_bytes", 0))
        reference = pack.shape.reference_bytes
        staging.publish("compression", {"codec": pack.codec, "hard": False, "bytes": size, "fp16_bytes": reference})


def report(run: Run, pack: LabelPack, size: int, budget: int | None, teacher_bytes: int) -> None:
    """Bytes of the file, and beside them all they may be compared with: what labels take in fp16 and in fp32, bits per
    class, and the teachers' weights, with which labels need not be stored at all."""
    reference = pack.shape.reference_bytes
    row = {
        "codec": pack.codec,
        "file bytes": size,
        "fp16 bytes": reference,
        "fp32 bytes": 2 * reference,
        "times smaller than fp16": round(reference / size, 2),
        "bits per class": round(8 * size / pack.shape.classes, 1),
        "teacher bytes": teacher_bytes,
    }
    run.reporter.table("bytes", [{**row, **pack.settings}])
    print(
        f"compression: {pack.codec} {pack.settings}: {size:,} bytes, {row['bits per class']:,} bits per class; "
        f"in fp16 {reference:,}, in fp32 {2 * reference:,}; the teachers' weights {teacher_bytes:,}"
    )
    if budget is not None and size < 0.98 * budget:
        print(f"compression: {pack.codec} can use no more: {budget - size:,} of {budget:,} bytes are left")


def plan(block: CompressionBlock, shape: LabelShape, policy: ViewLaw) -> Codec:
    """The codec with settings that keep the whole file within the budget."""
    return packing.plan(block.codec, block.options, shape, policy, block.bytes_of(shape))


def compress(run: Run, labels: SoftLabels, block: CompressionBlock, notes: Path) -> LabelPack:
    """The pack of some labels; encoded blocks are kept in `notes`, where a killed run finds them."""
    codec = plan(block, LabelShape(*labels.logits.shape), labels.policy)

    def each(encode: packing.Encode, starts: Sequence[int]) -> Sequence[packing.Arrays]:
        return run.map(encode, starts, lambda s: f"compress[{s:08d}]", retries=2, progress="compress")

    return packing.pack(block.codec, codec, labels, notes, run.device, each)


if __name__ == "__main__":
    main(compression_stage, "compression")
