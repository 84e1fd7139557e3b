"""features: one teacher looks at every train image; vectors, logits and R_C go to Zarr, shard by shard.

With a shortlist, a greedy choice by R_I - alpha R_D says which images are worth the views that R_C takes; the others
get an infinite rate, and cannot be selected by it. Tasks: one a part of the table. Output: data/features.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import features, images, networks, store
from dcpipe.coding_rate import Objective, greedy
from dcpipe.config.params import Shortlist
from dcpipe.types import FloatArray, ImageTable, IntArray, require
from flows.running.runtime import Run, main


def features_stage(run: Run) -> None:
    """Extract what is missing, publish."""
    block, rate = run.params.features, run.params.features.label_rate
    source = store.open_artifact(Path("data/images"), "images")
    watcher = store.open_artifact(Path("data/teacher") / block.teacher, "teacher")
    table, noun = store.table_of(source, "train"), store.load_teacher(watcher.path)
    networks.check_teachers({block.teacher: noun}, table.classes, table.size)
    check_shortlist(rate.shortlist, table)
    network = networks.from_teacher(noun, run.device)
    n, c = len(table), len(table.classes)
    d = networks.head(network).in_features
    store.need_space(n * (4 * d + 4 * c + 8), f"features of {n} images")
    see = partial(features.look, network, noun, batch_size=block.batch_size, device=run.device)
    measure = partial(
        features.label_rates,
        network,
        noun,
        policy=block.augmentation.policy(block.seed),
        n_views=rate.views,
        rate_options=rate.model_dump(exclude={"views", "shortlist"}),
        batch_size=block.batch_size,
        device=run.device,
    )
    inputs = {"images": source, "teacher": watcher}
    with run.staging("data/features", block.model_dump(mode="json"), inputs) as staging:
        vectors = store.create_blocks(staging.root / "vectors.zarr", (n, d), "float32", rows=table.part_rows)
        logits = store.create_blocks(staging.root / "logits.zarr", (n, c), "float32", rows=table.part_rows)
        rates = store.create_blocks(staging.root / "label_rate.zarr", (n,), "float64", rows=table.part_rows)

        def look(part: int) -> None:
            pixels, _, ids = images.read_part(table, part)
            vector, logit = see(pixels)
            vectors.write(part, vector)
            logits.write(part, logit)
            if rate.shortlist is None:  # images decoded once serve both; the shard written last says the part is done
                rates.write(part, measure(pixels, ids))

        todo = rates.missing() if rate.shortlist is None else logits.missing()
        run.map(look, todo, lambda part: f"features[{part:05d}]", retries=2, progress="features")
        columns: dict[str, Any] = {"id": table.ids, "label": table.labels}
        if rate.shortlist is not None:
            rank = shortlisted(run, rate.shortlist, vectors, table, staging)
            columns["rank"] = rank

            def measure_part(part: int) -> None:
                span = rates.span(part)
                rows = span.start + np.flatnonzero(rank[span] >= 0)
                values = np.zeros(span.stop - span.start)  # a rate of nothing: `rank` says which were measured
                if len(rows):
                    values[rows - span.start] = measure(images.read_rows(table, rows), table.ids[rows])
                rates.write(part, values)

            run.map(measure_part, rates.missing(), lambda p: f"label_rate[{p:05d}]", retries=2, progress="label rate")
        store.write_columns(staging.root / "keys.parquet", columns)
        found = rates.array[:] if rate.shortlist is None else rates.array[:][rank >= 0]
        spread = np.quantile(found, [0.05, 0.5, 0.95])
        run.reporter.table(
            "label rate", [{"quantile": q, "R_C": float(v)} for q, v in zip((5, 50, 95), spread, strict=True)]
        )
        staging.publish("features", {"n": n, "d": d, "classes": list(table.classes), "teacher": block.teacher})


def check_shortlist(shortlist: Shortlist | None, table: ImageTable) -> None:
    """Refuse a shortlist longer than a class, before any work."""
    if shortlist is not None:
        sizes = np.bincount(table.labels, minlength=len(table.classes))
        smallest = int(sizes.argmin())
        require(
            shortlist.per_class <= sizes[smallest],
            f"features.label_rate.shortlist.per_class is {shortlist.per_class} but class {table.classes[smallest]!r} "
            f"has {int(sizes[smallest])} images; lower it, or leave the shortlist out",
        )


def shortlisted(
    run: Run, shortlist: Shortlist, vectors: store.Blocks, table: ImageTable, staging: store.StagingDir
) -> IntArray:
    """Place of each image in its class's shortlist, i64 [n] from 0, -1 for none."""
    n_classes = len(table.classes)
    order, offsets = store.by_label(table.labels, n_classes)
    total, earlier = shortlist.per_class * n_classes, staging.kept("shortlist")

    def keep(rows: IntArray, gains: FloatArray) -> None:
        staging.keep("shortlist", rows=rows, gains=gains)
        run.reporter.progress("shortlist", len(rows), total)

    rows, _ = greedy(
        store.sorted_rows(vectors.array, order, staging.notes / "vectors.npy"),
        offsets,
        np.zeros(len(order)),
        total,
        Objective(shortlist.alpha, 0.0, shortlist.eps2, device=str(run.device)),
        earlier=None if earlier is None else (earlier["rows"], earlier["gains"]),
        report=keep,
    )
    rank = np.full(len(order), -1, dtype=np.int64)
    rank[order[rows]] = np.arange(total) // n_classes
    return rank


if __name__ == "__main__":
    main(features_stage, "features")
