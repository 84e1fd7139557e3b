"""features: compute vector, logits and R_C of every train image with one teacher and write them to Zarr by shards.

With a shortlist, R_C is measured only for the images that a greedy choice by R_I - alpha R_D picks first. The others
get an infinite rate, so a selector that uses R_C cannot pick them. Tasks: one per part of the table. Output:
data/features.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np

from dcpipe import features, store
from dcpipe.config.params import Shortlist
from dcpipe.features import shards
from dcpipe.types import FloatArray, ImageTable, IntArray
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def features_stage(run: Run) -> None:
    """Compute the missing shards and publish."""
    block, rate = run.params.features, run.params.features.label_rate
    inputs = Inputs.open("images", teachers=[block.teacher])
    table = store.table_of(inputs["images"], "train")
    if rate.shortlist is not None:
        features.check_shortlist(rate.shortlist.per_class, table.labels, table.classes)
    n = len(table)
    with run.staging("data/features", block.model_dump(mode="json"), inputs) as staging:
        [(_, teacher)] = inputs.verified_teachers()
        job = shards.Job(
            inputs.verified("images"),
            teacher,
            str(staging.root),
            block.augmentation.policy(block.seed),
            rate.views,
            json.dumps(rate.model_dump(exclude={"views", "shortlist"})),
            rate.shortlist is not None,
            block.batch_size,
            str(run.device),
            block.precision,
        )
        work = shards.work_of(job)
        missing = (work.rates if rate.shortlist is None else work.logits).missing()
        run.map(
            partial(shards.extract_part, job),
            missing,
            "features[{:05d}]".format,
            retries=2,
            workers=2,
            progress="features",
        )
        columns: dict[str, Any] = {"id": table.ids, "label": table.labels}
        measured = np.ones(n, dtype=bool)
        if rate.shortlist is not None:
            columns["rank"] = rank = shortlisted(run, rate.shortlist, work.vectors, table, staging)
            measured = rank >= 0
        store.write_columns(staging.root / shards.KEYS, columns)
        if rate.shortlist is not None:
            run.map(
                partial(shards.measure_part, job),
                work.rates.missing(),
                "label_rate[{:05d}]".format,
                retries=2,
                workers=2,
                progress="label rate",
            )
        values = work.rates.array[:][measured]
        spread = np.quantile(values, [0.05, 0.5, 0.95])
        quantiles = [{"quantile": q, "R_C": float(v)} for q, v in zip((5, 50, 95), spread, strict=True)]
        run.reporter.table("label rate", quantiles)
        run.log.info(features.describe_rates(values))
        d = int(work.vectors.array.shape[1])
        staging.publish("features", {"n": n, "d": d, "classes": list(table.classes), "teacher": block.teacher})


def shortlisted(
    run: Run, block: Shortlist, vectors: store.Blocks, table: ImageTable, staging: store.StagingDir
) -> IntArray:
    """The place of each image in the shortlist of its class, i64 [n] from 0, or -1; an interrupted choice resumes."""
    total, notes = block.per_class * len(table.classes), store.Notes(staging.notes)

    def save(rows: IntArray, gains: FloatArray) -> None:
        notes.save_arrays("shortlist", rows=rows, gains=gains)
        run.reporter.progress("shortlist", len(rows), total)

    return features.shortlist(
        vectors.array,
        table.labels,
        len(table.classes),
        per_class=block.per_class,
        alpha=block.alpha,
        eps2=block.eps2,
        device=run.device,
        folder=staging.notes,
        earlier=notes.load_arrays("shortlist"),
        report=save,
    )


if __name__ == "__main__":
    main(features_stage, "features")
