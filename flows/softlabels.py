"""softlabels: teacher logits of K views of every condensed image, fp16, one Zarr shard a block of images.

Where stored images are grids, it is the decoded ones that have views and labels.

Tasks: one a shard, resumable between shards. Two run at a time: while one writes, the other computes.
Output: data/softlabels (with `method: none`, a note that labels are hard).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from dcpipe import networks, softlabels, store
from dcpipe.types import ImageSet, Teacher, require
from dcpipe.views import multiformation
from flows.running.runtime import Run, main


def softlabels_stage(run: Run) -> None:
    """Label what is missing, publish."""
    block = run.params.softlabels
    source = store.open_artifact(Path("data/synthesis"), "synthesis")
    inputs = {"synthesis": source}
    if block.method == "none":
        with run.staging("data/softlabels", block.model_dump(mode="json"), inputs) as staging:
            staging.publish("softlabels", {"method": "none"})
        return
    for key in block.teachers:
        inputs[f"teacher {key}"] = store.open_artifact(Path("data/teacher") / key, "teacher")
    teachers = {key: store.load_teacher(inputs[f"teacher {key}"].path) for key in block.teachers}
    images = multiformation.decoded(store.load_set(source.path))
    with run.staging("data/softlabels", block.model_dump(mode="json"), inputs) as staging:
        policy = block.augmentation.policy(block.seed, block.mix)
        write_labels(run, staging.root, images, teachers)
        meta = {
            "method": "stored",
            "policy": store.describe_views(policy),
            "ids": images.ids.tolist(),
            "classes": list(images.classes),
            "teachers": list(teachers),
            "teacher_bytes": weight_bytes(inputs),
        }
        staging.publish("softlabels", meta)


def weight_bytes(inputs: Mapping[str, store.Artifact]) -> int:
    """What the teachers among the inputs weigh on disk: with them, labels need not be stored."""
    weights = (a.path / "weights.safetensors" for name, a in inputs.items() if name.startswith("teacher "))
    return sum(path.stat().st_size for path in weights)


def write_labels(run: Run, folder: Path, images: ImageSet, teachers: dict[str, Teacher]) -> store.Blocks:
    """Fill `labels.zarr` in `folder`, shard by shard, from where an earlier run stopped. Raises `DataError` for images
    that are not decoded."""
    require(images.grid == 1, f"labels are of decoded images, these have grid {images.grid}; decode them first")
    block = run.params.softlabels
    size = images.images.shape[1]
    networks.check_teachers(teachers, images.classes, size)
    shape = (len(images), block.views, len(images.classes))
    store.need_space(2 * int(np.prod(shape)), f"soft labels {list(shape)} in fp16")
    labels = store.create_blocks(folder / "labels.zarr", shape, "float16")
    asked = [networks.from_teacher(teacher, run.device) for teacher in teachers.values()]
    pixels = torch.from_numpy(images.images).to(run.device)
    compute = threading.Lock()

    def label(shard: int) -> None:
        span = labels.span(shard)
        with compute:
            values = softlabels.label_block(
                asked,
                list(teachers.values()),
                pixels,
                images.ids,
                np.arange(span.start, span.stop),
                policy=block.augmentation.policy(block.seed, block.mix),
                n_views=block.views,
                size=size,
                batch_size=block.batch_size,
            )
        labels.write(shard, values)

    run.map(label, labels.missing(), lambda s: f"softlabels[{s:05d}]", retries=2, workers=2, progress="softlabels")
    return labels


if __name__ == "__main__":
    main(softlabels_stage, "softlabels")
