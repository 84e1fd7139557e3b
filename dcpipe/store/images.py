"""Encoded images in Parquet: the tables of the splits of a source, and the condensed images of a set."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dcpipe.store.artifact import Artifact, open_artifact
from dcpipe.store.files import replacing
from dcpipe.types import DataError, EncodedImage, ImageSet, ImageTable, require

IMAGES = "images.parquet"
ROW_GROUP = 256


def image_table(rows: Sequence[EncodedImage], classes: Sequence[str]) -> pa.Table:
    """A table of images in the Hugging Face convention, with a column `id`; the metadata of the schema describes the
    features."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "id": {"dtype": "int64", "_type": "Value"},
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("id", pa.int64()), ("image", struct), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = {
        "id": pa.array([row.id for row in rows], pa.int64()),
        "image": pa.array([{"bytes": row.data, "path": row.path} for row in rows], struct),
        "label": pa.array([row.label for row in rows], pa.int64()),
    }
    return pa.table(columns, schema=schema)


def write_part(path: Path, rows: Sequence[EncodedImage], classes: Sequence[str]) -> None:
    """Write `image_table` as a Parquet file, atomically."""
    table = image_table(rows, classes)
    with replacing(path) as partial:
        # Encoded images cannot be compressed further.
        pq.write_table(table, partial, compression="NONE", row_group_size=ROW_GROUP, use_dictionary=False)


def image_rows(images: ImageSet) -> list[EncodedImage]:
    """The images of a set, encoded as lossless PNG."""
    return [
        EncodedImage(int(i), encode_png(image), f"{int(i)}.png", int(label))
        for i, image, label in zip(images.ids, images.images, images.labels, strict=True)
    ]


def table_of(artifact: Artifact, split: str) -> ImageTable:
    """One split (train, minival, test) of an artifact `images`; the images stay on disk."""
    meta = artifact.meta
    require(split in meta["splits"], f"{artifact.path} has no split {split!r}; it has {', '.join(meta['splits'])}")
    parts = tuple(artifact.path / name for name in meta["splits"][split])
    columns = [pq.read_table(part, columns=["id", "label"]) for part in parts]
    none = np.empty(0, dtype=np.int64)  # minival may be empty; then it has no parts
    return ImageTable(
        parts=parts,
        part_rows=meta["part_rows"],
        ids=np.concatenate([none, *(column["id"].to_numpy() for column in columns)]),
        labels=np.concatenate([none, *(column["label"].to_numpy() for column in columns)]),
        classes=tuple(meta["classes"]),
        size=meta["size"],
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
    )


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """One image u8 [h, w, 3] as the bytes of a lossless PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_set(folder: Path, images: ImageSet) -> dict[str, Any]:
    """Write `images.parquet` (lossless PNG) and return the metadata to publish it with."""
    write_part(folder / IMAGES, image_rows(images), images.classes)
    return {"classes": list(images.classes), "grid": images.grid, **smaller_sizes(images)}


def smaller_sizes(images: ImageSet) -> dict[str, str]:
    """The metadata `by` of sets whose smaller sizes are not their first images. Other sets have no such key, as before
    this choice existed, so that their digests stay the same."""
    return {} if images.by == "images" else {"by": images.by}


def load_set(path: Path) -> ImageSet:
    """The condensed images of an artifact `synthesis`."""
    return read_set(path / IMAGES, open_artifact(path, "synthesis").meta)


def read_set(path: Path, meta: Mapping[str, Any]) -> ImageSet:
    """An image set from its Parquet file and the metadata that `save_set` returned."""
    table = pq.read_table(path)
    images = []
    for row, record in enumerate(table["image"].to_pylist()):
        try:
            images.append(np.asarray(Image.open(io.BytesIO(record["bytes"])).convert("RGB")))
        except OSError as error:
            raise DataError(f"{path}: row {row} ({record['path']}) is not an image ({error}); pull it again") from error
    return ImageSet(
        images=np.stack(images),
        labels=table["label"].to_numpy().astype(np.int64),
        ids=table["id"].to_numpy().astype(np.int64),
        classes=tuple(meta["classes"]),
        grid=meta["grid"],
        by=meta.get("by", "images"),
    )
