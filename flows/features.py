"""features: compute vector, logits and R_C of every train image with one teacher and write them to Zarr by shards.

With a shortlist, R_C is measured only for the images that a greedy choice by R_I - alpha R_D picks first. The others
get an infinite rate, so a selector that uses R_C cannot pick them. Tasks: one per part of the table. Output:
data/features.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dcpipe import features, images, networks, store
from dcpipe.config.params import Shortlist
from dcpipe.types import FloatArray, ImageTable, IntArray
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def features_stage(run: Run) -> None:
    """Compute the missing shards and publish."""
    block, rate = run.params.features, run.params.features.label_rate
    inputs = Inputs.open("images", teachers=[block.teacher])
    table, teachers = store.table_of(inputs["images"], "train"), inputs.load_teachers()
    networks.check_teachers(teachers, table.classes, table.size)
    if rate.shortlist is not None:
        features.check_shortlist(rate.shortlist.per_class, table.labels, table.classes)
    network = networks.from_teacher(teachers[block.teacher], run.device)
    n, c, d = len(table), len(table.classes), networks.head(network).in_features
    store.need_space(n * (4 * d + 4 * c + 8), f"features of {n} images")
    compute = partial(
        features.extract, network, teachers[block.teacher], batch_size=block.batch_size, device=run.device
    )
    measure = partial(
        features.label_rates,
        network,
        teachers[block.teacher],
        policy=block.augmentation.policy(block.seed),
        n_views=rate.views,
        rate_options=rate.model_dump(exclude={"views", "shortlist"}),
        batch_size=block.batch_size,
        device=run.device,
    )
    with run.staging("data/features", block.model_dump(mode="json"), inputs) as staging:
        vectors = store.create_blocks(staging.root / "vectors.zarr", (n, d), "float32", rows=table.part_rows)
        logits = store.create_blocks(staging.root / "logits.zarr", (n, c), "float32", rows=table.part_rows)
        rates = store.create_blocks(staging.root / "label_rate.zarr", (n,), "float64", rows=table.part_rows)

        def extract(part: int) -> None:
            pixels, _, ids = images.read_part(table, part)
            vector, logit = compute(pixels)
            vectors.write(part, vector)
            logits.write(part, logit)
            if rate.shortlist is None:  # the images are decoded once for both; the last shard marks the part as done
                rates.write(part, measure(pixels, ids))

        missing = rates.missing() if rate.shortlist is None else logits.missing()
        run.map(extract, missing, lambda part: f"features[{part:05d}]", retries=2, progress="features")
        columns: dict[str, Any] = {"id": table.ids, "label": table.labels}
        measured = np.ones(n, dtype=bool)
        if rate.shortlist is not None:
            columns["rank"] = rank = shortlisted(run, rate.shortlist, vectors, table, staging)
            measured = rank >= 0

            def measure_part(part: int) -> None:
                span = rates.span(part)
                rows = span.start + np.flatnonzero(measured[span])
                values = np.zeros(span.stop - span.start)  # zero if not measured, which `rank` shows
                if len(rows):
                    values[rows - span.start] = measure(images.read_rows(table, rows), table.ids[rows])
                rates.write(part, values)

            run.map(measure_part, rates.missing(), lambda p: f"label_rate[{p:05d}]", retries=2, progress="label rate")
        store.write_columns(staging.root / "keys.parquet", columns)
        values = rates.array[:][measured]
        spread = np.quantile(values, [0.05, 0.5, 0.95])
        quantiles = [{"quantile": q, "R_C": float(v)} for q, v in zip((5, 50, 95), spread, strict=True)]
        run.reporter.table("label rate", quantiles)
        print(f"features: {features.describe_rates(values)}")
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
