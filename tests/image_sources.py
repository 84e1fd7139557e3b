"""One set of images in the form of each source that reads files, so that all of them must give the same pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tar_shards import write_shard

from dcpipe.store.encoding import encode_png

CLASSES = ("ant", "bee")
SOURCES = ("imagefolder", "parquet", "webdataset")
TRAIN, TEST = 40, 12  # images
GROUP = 5  # rows of a row group


def pixels_of(split: str, size: int = 6) -> np.ndarray:
    """Pixels u8 [n, s, s, 3] of a split, in the order of all sources: by class, because folders have this order."""
    n = TRAIN if split == "train" else TEST
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def labels_of(split: str) -> np.ndarray:
    """Labels i64 [n] of a split."""
    return np.repeat([0, 1], (TRAIN if split == "train" else TEST) // 2)


def write_set(root: Path, source: str, size: int = 6) -> dict[str, Any]:
    """Write the set below `root` for a source, in two shards where it has shards. Returns its options but `path`."""
    for split in ("train", "test"):
        images, labels = [encode_png(image) for image in pixels_of(split, size)], labels_of(split).tolist()
        if source == "imagefolder":
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                path = root / split / CLASSES[label] / f"{row:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image)
            continue
        half = len(images) // 2
        for shard, rows in enumerate((range(half - 1), range(half - 1, len(images)))):
            if source == "parquet":
                _write_parquet(
                    root / f"{split}-{shard}.parquet", [images[row] for row in rows], [labels[r] for r in rows]
                )
            else:
                members = [(f"{row:02d}.png", images[row]) for row in rows]
                members += [(f"{row:02d}.cls", b"%d" % labels[row]) for row in rows]
                write_shard(root / f"{split}-{shard}.tar", members)
    return {"imagefolder": {"test": "test"}, "parquet": {}, "webdataset": {"classes": list(CLASSES)}}[source]


def _write_parquet(path: Path, images: list[bytes], labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": image, "path": f"{path.stem}-{row}.png"} for row, image in enumerate(images)]
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table({"image": pa.array(column, schema.field("image").type), "label": labels}, schema=schema)
    pq.write_table(table, path, row_group_size=GROUP, compression="NONE")
