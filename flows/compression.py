"""compression: pack the soft labels within the byte budget, which counts the bytes of the file on disk.

Tasks: one per block of images. Output: data/compression/labels.safetensors; for hard labels only a manifest that says
so.
"""

from __future__ import annotations

from pathlib import Path

from dcpipe import store
from dcpipe.compression.budget import Budget
from dcpipe.compression.foresight import MOST, describe, foresight_of
from dcpipe.types import LabelPack, SoftLabels
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def compression_stage(run: Run) -> None:
    """Plan the pack, encode the missing blocks, join them, measure the file and publish it."""
    block, inputs = run.params.compression, Inputs.open("softlabels")
    with run.staging("data/compression", block.model_dump(mode="json"), inputs) as staging:
        if inputs["softlabels"].meta["method"] == "none":
            staging.publish("compression", {"codec": "none", "hard": True})
            return
        budget = Budget(**block.model_dump())
        labels = store.load_soft_labels(inputs.path("softlabels"))
        pack = budget.compress(labels, staging.notes, run.device, run.map)
        size = store.save_pack(staging.root / "labels.safetensors", pack)
        report(run, pack, size, budget.limit(pack.shape), inputs["softlabels"].meta.get("teacher_bytes", 0))
        report_rates(run, pack, labels)
        reference = pack.shape.reference_bytes
        staging.publish("compression", {"codec": pack.codec, "hard": False, "bytes": size, "fp16_bytes": reference})


def report(run: Run, pack: LabelPack, size: int, limit: int | None, teacher_bytes: int) -> None:
    """Report the bytes of the file, together with what they may be compared with: the labels in fp16 and in fp32, bits
    per class, and the weights of the teachers, which could be shipped instead of labels."""
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
    run.log.info(
        f"{pack.codec} {pack.settings}: {size:,} bytes, {row['bits per class']:,} bits per class; "
        f"in fp16 {reference:,}, in fp32 {2 * reference:,}; the teachers' weights {teacher_bytes:,}"
    )
    if limit is not None and size < 0.98 * limit:
        run.log.info(f"{pack.codec} cannot use the whole budget: {limit - size:,} of {limit:,} bytes are left")


def report_rates(run: Run, pack: LabelPack, labels: SoftLabels) -> None:
    """Report how well R_C told the error of each image. It is not published: the pack does not depend on features."""
    folder, temperatures = Path("data/features"), [run.params.features.label_rate.temperature]
    if run.params.synthesis.method != "none" or not (folder / "artifact.json").is_file():
        return
    if found := foresight_of(store.load_features(folder), pack, labels, temperatures, run.device):
        run.log.info(describe(found, min(len(labels.ids), MOST)))


if __name__ == "__main__":
    main(compression_stage, "compression")
