"""images: convert any source to Parquet tables of train, minival and test, and decode and check every image once. With
`copy: false`, the tables say where the images are instead of holding copies.

Tasks: one per part of 2,048 images. Output: data/images, with pixel statistics, a list of train images that are also in
test, and a report of what the images are like. Where `on_corrupt: skip` leaves images out, one task more per part that
changes, which decodes nothing, and a list of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from dcpipe import images, store
from dcpipe.config import check
from dcpipe.config.params import Params
from dcpipe.images import corruption, leakage, report, shards
from dcpipe.types import IntArray, check_same_classes, require
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
    # An impossible budget is refused before any image is decoded.
    _check_classes(run.params, train.classes, train.labels[rows["train"]])
    state = {
        "files": None if listing is None else listing.to_json(),
        "labels": [hashlib.sha256(split.labels.tobytes()).hexdigest() for split in (train, test)],
        "classes": list(train.classes),
    }
    with run.staging("data/images", block.content(), Inputs({}), state) as staging:
        job = shards.Job(original, block.size, str(staging.root), str(staging.notes), block.copies)
        parts = shards.parts_of(rows)
        reports = run.map(partial(shards.write_part, job), parts, _task_name, retries=2, workers=2, progress="images")
        by_split = {name: [r for r, part in zip(reports, parts, strict=True) if part[0] == name] for name in rows}
        if corrupt := corruption.listed(by_split):
            rows = _without(run, job, rows, corrupt)
            parts = shards.parts_of(rows)
            corruption.write(staging.root / corruption.LIST, corrupt)
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
        told = report.report(by_split, train.labels[rows["train"]], train.classes, block.size, repeated)
        run.reporter.table("splits", [{"split": name, "images": len(rows[name])} for name in rows])
        run.reporter.markdown("report", "\n".join(f"- {line}" for line in told.lines()))
        run.reporter.markdown("duplicates", f"```json\n{json.dumps(repeated, indent=1)[:4000]}\n```")
        staging.publish("images", meta, report=told.model_dump(mode="json"))
    for line in told.lines():
        run.log.info(line)


def _task_name(part: shards.Part) -> str:
    return f"images[{part[0]}/{part[1]:05d}]"


def _check_classes(params: Params, classes: Sequence[str], labels: IntArray) -> None:
    """Raises `DataError` if a class has fewer train images than are to be selected, or none, and if the codec cannot
    reach the budget with these images."""
    counts, selection = np.bincount(labels, minlength=len(classes)), params.selection
    smallest = int(counts.argmin())
    require(counts[smallest] > 0, f"class {classes[smallest]!r} has no train images that can be read; restore some")
    remedy = "" if check.against_small_classes(params) else ", or set selection.small_classes: take_all"
    require(
        selection.ipc <= counts[smallest] or selection.takes_all,
        f"selection.ipc is {selection.ipc} but class {classes[smallest]!r} has {counts[smallest]} train images; lower "
        f"ipc{remedy}",
    )
    check_budget(params, len(classes), counts.tolist())


def _without(
    run: Run, job: shards.Job, rows: dict[str, IntArray], corrupt: list[corruption.Entry]
) -> dict[str, IntArray]:
    """The rows of each split without corrupt images. The parts that lose some, and those after them, are written
    again."""
    splits, n = shards.splits_of(job.original), sum(map(len, rows.values()))
    if run.params.images.on_corrupt == "stop":
        path = store.scratch_root() / corruption.LIST
        corruption.write(path, corrupt)
        corruption.stop(corrupt, n, path)
    kept = corruption.without(rows, corrupt)
    are = "is" if len(corrupt) == 1 else "are"
    told = f"{len(corrupt):,} of {n:,} images {are} corrupt and left out; data/images/{corruption.LIST} lists them"
    run.log.warning(told)
    _check_classes(run.params, splits.train.classes, splits.train.labels[kept["train"]])
    require(len(kept["test"]) > 0, "every test image is corrupt; restore them, or set images.options.test_share")
    changed = shards.changed_parts(rows, kept)
    run.map(
        partial(shards.write_again, job),
        changed,
        lambda given: _task_name(given[0]),
        retries=2,
        workers=2,
        progress="images",
    )
    for part in set(shards.parts_of(rows)).difference(shards.parts_of(kept)):
        job.path(part).unlink()
    return kept


if __name__ == "__main__":
    main(images_stage, "images")
