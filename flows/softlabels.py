"""softlabels: compute fp16 teacher logits of K views of every condensed image, one Zarr shard per block of images.

If stored images are grids, views and labels are those of the decoded images.

Tasks: one per shard, so an interrupted stage resumes at a shard. Two run at a time: while one writes, the other
computes. Output: data/softlabels (with `method: none` only a manifest that says that labels are hard).
"""

from __future__ import annotations

from dcpipe import softlabels, store
from dcpipe.views import multiformation
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def softlabels_stage(run: Run) -> None:
    """Compute the missing shards and publish."""
    block = run.params.softlabels
    stored = block.method == "stored"
    inputs = Inputs.open("synthesis", teachers=block.teachers if stored else [])
    with run.staging("data/softlabels", block.model_dump(mode="json"), inputs) as staging:
        if not stored:
            staging.publish("softlabels", {"method": "none"})
            return
        teachers = inputs.load_teachers()
        images = multiformation.decoded(store.load_set(inputs.path("synthesis")))
        shape = softlabels.shape_of(images, block.views)
        softlabels.fill(
            store.create_blocks(staging.root / "labels.zarr", shape, "float16"),
            images,
            teachers,
            policy=block.policy,
            batch_size=block.batch_size,
            device=run.device,
            map_tasks=run.map,
            file=store.SetFile.of(inputs["synthesis"]),
            ensemble=block.ensemble,
        )
        meta = {
            **store.save_label_keys(staging.root, images.ids, block.policy, images.classes, list(teachers)),
            "method": "stored",
            "teacher_bytes": sum(inputs.teacher_bytes.values()),
        }
        staging.publish("softlabels", meta)


if __name__ == "__main__":
    main(softlabels_stage, "softlabels")
