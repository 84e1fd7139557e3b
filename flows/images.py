"""images: convert any source to Parquet tables of train, minival and test, and decode and check every image once. With
`copy: false`, the tables say where the images are instead of holding copies.

Tasks: one per part of 2,048 images. Output: data/images, with pixel statistics and a report of train images that are
also in test.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial

import numpy as np

from dcpipe import images, store
from dcpipe.images import leakage, shards
from dcpipe.types import check_same_classes, require
from flows.running.checking import check_budget
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def images_stage(run: Run) -> None:
    """Read, check and split the images, measure their pixels and publish."""
    block = run.params.images
    listing = images.list_source(images.SOURCES[block.source], block.options)
    known = "" if listing is None else listing.sha256
    original = shards.Original(block.source, json.dumps(block.options), known, block.minival, block.seed)
    splits = shards.splits_of(original)
    train, test, rows = splits.train, splits.test, splits.rows
    check_same_classes(train.classes, test.classes, "train and test")
    if note := images.order_note(train.classes):
        run.log.info(note)
    elsewhere = None if block.copies else images.located(train, block.source).elsewhere
    check_budget(run.params, len(train.classes))  # refuses an impossible budget before any image is decoded
    smallest = int(np.bincount(train.labels[rows["train"]], minlength=len(train.classes)).min())
    require(
        run.params.selection.ipc <= smallest,
        f"selection.ipc is {run.params.selection.ipc} but the smallest class has {smallest} train images; lower ipc",
    )
    state = {
        "files": None if listing is None else listing.to_json(),
        "labels": [hashlib.sha256(split.labels.tobytes()).hexdigest() for split in (train, test)],
        "classes": list(train.classes),
    }
    with run.staging("data/images", block.content(), Inputs({}), state) as staging:
        job = shards.Job(original, block.size, str(staging.root), str(staging.notes), block.copies)
        parts = splits.parts()
        reports = run.map(
            partial(shards.write_part, job),
            parts,
            lambda part: f"images[{part[0]}/{part[1]:05d}]",
            retries=2,
            workers=2,
            progress="images",
        )
        by_split = {name: [r for r, part in zip(reports, parts, strict=True) if part[0] == name] for name in rows}
        mean, std = images.merge_reports(by_split["train"])
        repeated = images.duplicates([*by_split["train"], *by_split["minival"]], by_split["test"])
        if found := leakage.describe(repeated, len(rows["test"])):
            run.log.warning(f"{found}; data/images/duplicates.json lists them")
        leakage.check(repeated, len(rows["test"]), block.max_leakage)
        (staging.root / "duplicates.json").write_text(json.dumps(repeated, indent=1) + "\n", encoding="utf-8")
        meta = {
            "classes": list(train.classes),
            "size": block.size,
            "part_rows": images.PART_ROWS,
            "mean": list(mean),
            "std": list(std),
            "counts": {name: len(rows[name]) for name in rows},
            "splits": {
                name: [job.path(part).relative_to(staging.root).as_posix() for part in parts if part[0] == name]
                for name in rows
            },
        }
        meta |= {key: value for key, value in block.content().items() if key in ("decoder", "test_crop")}
        if elsewhere is not None:
            meta["source"] = store.source_meta(elsewhere, [job.path(part) for part in parts])
        run.reporter.table("splits", [{"split": name, "images": len(rows[name])} for name in rows])
        run.reporter.markdown("duplicates", f"```json\n{json.dumps(repeated, indent=1)[:4000]}\n```")
        staging.publish("images", meta)


if __name__ == "__main__":
    main(images_stage, "images")
