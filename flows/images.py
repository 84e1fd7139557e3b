"""images: convert any source to Parquet tables of train, minival and test, and decode and check every image once.

Tasks: one per part of 2,048 images. Output: data/images, with pixel statistics and a report of train images that are
also in test.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from dcpipe import images, store
from dcpipe.config import budget
from dcpipe.images import leakage
from dcpipe.types import IntArray, check_same_classes, require
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main

Part = tuple[str, int]  # a split, and the number of a part in it


def images_stage(run: Run) -> None:
    """Read, check and split the images, measure their pixels and publish."""
    block = run.params.images
    source = images.SOURCES[block.source]
    listing = images.list_source(source, block.options)
    sources = source(**block.options)
    train, test = sources["train"], sources["test"]
    check_same_classes(train.classes, test.classes, "train and test")
    if note := images.order_note(train.classes):
        print(f"images: {note}")
    budget.planned(run.params, len(train.classes))  # refuses an impossible budget before any image is decoded
    rows = dict(zip(("train", "minival"), images.split_minival(train.labels, block.minival, block.seed), strict=True))
    rows["test"] = np.arange(len(test.labels), dtype=np.int64)
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

        def part_path(part: Part) -> Path:
            return staging.root / part[0] / f"part-{part[1]:05d}.parquet"

        def part_rows(part: Part) -> IntArray:
            return rows[part[0]][part[1] * images.PART_ROWS : (part[1] + 1) * images.PART_ROWS]

        def write(part: Part) -> images.PartReport:
            note = staging.notes / f"{part[0]}-{part[1]:05d}.json"
            if part_path(part).exists() and note.exists():
                return images.PartReport.from_json(json.loads(note.read_text(encoding="utf-8")))
            source, wanted = (test if part[0] == "test" else train), part_rows(part)
            encoded, report = images.inspect_part(source, wanted, train.classes, block.size, wanted)
            note.write_text(json.dumps(report.to_json()), encoding="utf-8")
            part_path(part).parent.mkdir(exist_ok=True)
            store.write_part(part_path(part), encoded, train.classes)
            return report

        parts = [(split, index) for split in rows for index in range(-(-len(rows[split]) // images.PART_ROWS))]
        reports = run.map(
            write, parts, lambda part: f"images[{part[0]}/{part[1]:05d}]", retries=2, workers=2, progress="images"
        )
        by_split = {name: [r for r, part in zip(reports, parts, strict=True) if part[0] == name] for name in rows}
        mean, std = images.merge_reports(by_split["train"])
        repeated = images.duplicates([*by_split["train"], *by_split["minival"]], by_split["test"])
        if found := leakage.describe(repeated, len(rows["test"])):
            print(f"images: {found}; data/images/duplicates.json lists them")
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
                name: [part_path(part).relative_to(staging.root).as_posix() for part in parts if part[0] == name]
                for name in rows
            },
        }
        run.reporter.table("splits", [{"split": name, "images": len(rows[name])} for name in rows])
        run.reporter.markdown("duplicates", f"```json\n{json.dumps(repeated, indent=1)[:4000]}\n```")
        staging.publish("images", meta)


if __name__ == "__main__":
    main(images_stage, "images")
