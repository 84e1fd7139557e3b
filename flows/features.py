"""features: one teacher looks at every train image; vectors, logits and R_C go to Zarr, shard by shard.

Tasks: one a part of the table. Output: data/features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcpipe import features, images, networks, store
from flows.runtime import Run, main


def features_stage(run: Run) -> None:
    """Extract what is missing, publish."""
    block = run.params.features
    source = store.open_artifact(Path("data/images"), "images")
    watcher = store.open_artifact(Path("data/teacher") / block.teacher, "teacher")
    table, noun = store.table_of(source, "train"), store.load_teacher(watcher.path)
    networks.check_teachers({block.teacher: noun}, table.classes, table.size)
    network = networks.from_teacher(noun, run.device)
    n, c = len(table), len(table.classes)
    d = networks.head(network).in_features
    store.need_space(n * (4 * d + 4 * c + 8), f"features of {n} images")
    inputs = {"images": source, "teacher": watcher}
    with run.bench("data/features", block.model_dump(mode="json"), inputs) as bench:
        vectors = store.create_blocks(bench.root / "vectors.zarr", (n, d), "float32", rows=table.part_rows)
        logits = store.create_blocks(bench.root / "logits.zarr", (n, c), "float32", rows=table.part_rows)
        rates = store.create_blocks(bench.root / "label_rate.zarr", (n,), "float64", rows=table.part_rows)
        rate = block.label_rate

        def look(part: int) -> None:
            pixels, _, ids = images.read_part(table, part)
            vector, logit, label_rate = features.extract(
                network,
                noun,
                pixels,
                ids,
                policy=block.augmentation.policy(block.seed),
                n_views=rate.views,
                rate_options=rate.model_dump(exclude={"views"}),
                batch_size=block.batch_size,
                device=run.device,
            )
            vectors.write(part, vector)
            logits.write(part, logit)
            rates.write(part, label_rate)  # last: its shard says the part is done

        run.map(look, rates.missing(), lambda part: f"features[{part:05d}]", retries=2, progress="features")
        store.write_columns(bench.root / "keys.parquet", {"id": table.ids, "label": table.labels})
        spread = np.quantile(rates.array[:], [0.05, 0.5, 0.95])
        run.reporter.table(
            "label rate", [{"quantile": q, "R_C": float(v)} for q, v in zip((5, 50, 95), spread, strict=True)]
        )
        bench.publish("features", {"n": n, "d": d, "classes": list(table.classes), "teacher": block.teacher})


if __name__ == "__main__":
    main(features_stage, "features")
