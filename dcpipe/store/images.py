"""Encoded images in Parquet: the tables of the splits of a source, and the condensed images of a set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from dcpipe.store import parquet_footer
from dcpipe.store.artifact import Artifact, open_artifact
from dcpipe.store.columns import REMEDY, check_column, read_columns
from dcpipe.store.documents import Channels, Classes, Open, Pixels, Size, Text, checked, of, reading, shown
from dcpipe.store.encoding import encode_all
from dcpipe.store.files import replacing
from dcpipe.store.manifest import MANIFEST
from dcpipe.store.pictures import open_image, size_of
from dcpipe.types import (
    By,
    DataError,
    Decoder,
    Decoding,
    Elsewhere,
    EncodedImage,
    ImageSet,
    ImageTable,
    require,
)
from dcpipe.types.paths import is_url

IMAGES = "images.parquet"
# Rows of a table are picked one by one, and a pick reads its whole group: so a group has few rows, and even fewer of
# large images. A set is read as a whole.
TABLE_GROUP, TABLE_GROUP_BYTES, SET_GROUP = 32, 2**19, 256
# How much larger than its file a set may become in memory, as stored and as decoded grids, unless it is small: natural
# images grow a few times as PNG is decoded, blank ones several hundred times.
_GROWTH, _SMALL = 64, 2**30
_GRID_GROWTH, _SMALL_GRIDS = 1024, 2**32
_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class SetMeta(Open):
    """What `save_set` says of a set; a release says it of its images."""

    classes: Classes
    grid: int = Field(ge=1, lt=2**16)
    by: By = "images"


class _Source(Open):
    """Where the images of an index are."""

    root: str = Field(min_length=1, max_length=4096)
    column: Text
    bytes: Size


class _TableMeta(Open):
    """What the images stage says of its tables."""

    classes: Classes
    size: Pixels
    part_rows: int = Field(ge=1, lt=2**40)
    mean: Channels
    std: Channels
    splits: dict[Text, list[Text]]
    decoder: Decoder = "exact"
    test_crop: float = Field(default=1.0, gt=0.0, le=1.0)
    source: _Source | None = None


def image_table(rows: Sequence[EncodedImage], classes: Sequence[str]) -> pa.Table:
    """A table of images in the Hugging Face convention, with a column `id`; the metadata of the schema describes the
    features."""
    features = {
        "id": {"dtype": "int64", "_type": "Value"},
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("id", pa.int64()), ("image", _STRUCT), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = {
        "id": pa.array([row.id for row in rows], pa.int64()),
        "image": pa.array([{"bytes": row.data, "path": row.path} for row in rows], _STRUCT),
        "label": pa.array([row.label for row in rows], pa.int64()),
    }
    return pa.table(columns, schema=schema)


def write_part(path: Path, rows: Sequence[EncodedImage], classes: Sequence[str]) -> None:
    """Write a part of a table of images, `image_table` as a Parquet file, atomically. A row group has 32 rows, or fewer
    if their images take more than half a megabyte on average."""
    n_bytes = sum(len(row.data) for row in rows)
    group = max(1, min(TABLE_GROUP, TABLE_GROUP_BYTES * len(rows) // max(1, n_bytes)))
    # The smallest and largest image of a group say nothing, and would take more bytes than small images leave over.
    _write(path, image_table(rows, classes), group, ["id", "label"])


def _write(path: Path, table: pa.Table, group: int, statistics: bool | list[str]) -> None:
    with replacing(path) as partial:
        pq.write_table(
            table,
            partial,
            compression="NONE",  # encoded images cannot be compressed further
            row_group_size=group,
            use_dictionary=False,
            write_statistics=statistics,
        )


def image_rows(images: ImageSet, stored: Path | None = None) -> list[EncodedImage]:
    """The images of a set, encoded as lossless PNG; for `stored`, see `encode_all`."""
    return [
        EncodedImage(int(i), data, f"{int(i)}.png", int(label))
        for i, data, label in zip(images.ids, encode_all(images, stored), images.labels, strict=True)
    ]


def table_of(artifact: Artifact, split: str) -> ImageTable:
    """One split (train, minival, test) of an artifact `images`; the images stay on disk."""
    remedy = f"remove {artifact.path} and run `dvc repro`"
    meta = checked(_TableMeta, artifact.meta, artifact.path / MANIFEST, remedy, "in meta")
    require(split in meta.splits, f"{artifact.path} has no split {split!r}; it has {', '.join(meta.splits)}")
    parts = tuple(artifact.file(name) for name in meta.splits[split])
    columns = [read_columns(part, {"id": "int64", "label": "int64"}) for part in parts]
    none = np.empty(0, dtype=np.int64)  # minival may be empty; then it has no parts
    with of(artifact.path):
        return ImageTable(
            parts=parts,
            part_rows=meta.part_rows,
            ids=np.concatenate([none, *(column["id"] for column in columns)]),
            labels=np.concatenate([none, *(column["label"] for column in columns)]),
            classes=tuple(meta.classes),
            size=meta.size,
            mean=tuple(artifact.meta["mean"]),
            std=tuple(artifact.meta["std"]),
            origin=(str(artifact.path.absolute()), artifact.digest, split),
            decoding=Decoding(meta.decoder, 1.0 if split == "train" else meta.test_crop),
            elsewhere=None if meta.source is None else _elsewhere(artifact, meta.source),
        )


def source_meta(elsewhere: Elsewhere, parts: Sequence[Path]) -> dict[str, Any]:
    """What the metadata of tables that say where images are has under `source`, with the bytes of all images."""
    n_bytes = sum(int(read_columns(part, {"size": "int64"})["size"].sum()) for part in parts)
    return {"root": elsewhere.root, "column": elsewhere.column, "bytes": n_bytes}


def _elsewhere(artifact: Artifact, source: _Source) -> Elsewhere:
    """The source of an index. Its path is relative to the workspace, in which the artifact is data/images."""
    root = source.root if is_url(source.root) else str(artifact.path.absolute().parents[1] / source.root)
    return Elsewhere(root, source.column)


def save_set(folder: Path, images: ImageSet, stored: Path | None = None) -> dict[str, Any]:
    """Write `images.parquet` (lossless PNG) and return the metadata to publish it with. `stored` is a file that may
    hold images of the set already: they are not encoded again."""
    _write(folder / IMAGES, image_table(image_rows(images, stored), images.classes), SET_GROUP, True)
    return set_meta(images)


def set_meta(images: ImageSet) -> dict[str, Any]:
    """The metadata that a set is published with."""
    return {"classes": list(images.classes), "grid": images.grid, **smaller_sizes(images)}


def smaller_sizes(images: ImageSet) -> dict[str, str]:
    """The metadata `by` of sets whose smaller sizes are not their first images. Other sets have no such key, as before
    this choice existed, so that their digests stay the same."""
    return {} if images.by == "images" else {"by": images.by}


def load_set(path: Path) -> ImageSet:
    """The condensed images of an artifact `synthesis`."""
    return set_of(open_artifact(path, "synthesis"))


def set_of(artifact: Artifact) -> ImageSet:
    """The condensed images of an open artifact `synthesis`."""
    return read_set(artifact.file(IMAGES), artifact.meta)


@dataclass(frozen=True)
class SetFile:
    """A condensed set on disk, in a form that can be sent to a worker: its Parquet file, and its metadata as JSON."""

    path: str
    meta: str

    @classmethod
    def of(cls, artifact: Artifact) -> SetFile:
        """The set of an open artifact `synthesis`."""
        return cls(str(artifact.file(IMAGES).absolute()), json.dumps(artifact.meta))

    @classmethod
    def at(cls, path: Path, images: ImageSet) -> SetFile:
        """The file of a set that is in memory too."""
        return cls(str(path.absolute()), json.dumps(set_meta(images)))

    def read(self) -> ImageSet:
        """The set."""
        return read_set(Path(self.path), json.loads(self.meta))


def read_set(path: Path, meta: Mapping[str, Any]) -> ImageSet:
    """An image set from its Parquet file and the metadata that `save_set` returned, which the manifest next to the file
    holds; raises `DataError` for anything else."""
    found = checked(SetMeta, meta, path.with_name(MANIFEST), REMEDY, "in meta")
    rows = read_columns(path, {"id": "int64", "label": "int64"})
    encoded = _encoded(path)
    with of(path):
        return ImageSet(
            images=_decoded(path, encoded, found.grid),
            labels=rows["label"],
            ids=rows["id"],
            classes=tuple(found.classes),
            grid=found.grid,
            by=found.by,
        )


def _encoded(path: Path) -> list[tuple[bytes, str]]:
    """File bytes and a name for messages of every row. The file must be packed as dcpipe packs it: then what is read
    takes no more memory than the file has bytes."""
    with reading(path, "Parquet", REMEDY), pq.ParquetFile(path) as file:
        check_column(path, file.schema_arrow, "image", _STRUCT)
        for chunk in parquet_footer.chunks(path):
            require(
                chunk.plain, f"{path}: its column {shown(chunk.column)} is packed, which dcpipe does not do; {REMEDY}"
            )
        values = file.read(columns=["image"])["image"].to_pylist()
    require(bool(values), f"{path} has no rows; {REMEDY}")
    images = []
    for row, value in enumerate(values):
        data = None if value is None else value["bytes"]
        if data is None:
            raise DataError(f"{path}: row {row} has no image; {REMEDY}")
        images.append((bytes(data), f"{path}: row {row} ({shown(value['path'] or '')[1:-1]})"))
    return images


def _decoded(path: Path, encoded: Sequence[tuple[bytes, str]], grid: int) -> npt.NDArray[np.uint8]:
    """Pixels u8 [n, h, w, 3] of images of one size."""
    size = width, height = size_of(*encoded[0], "pull it again")
    n_bytes, stored = path.stat().st_size, len(encoded) * width * height * 3
    require(
        grid <= min(size),
        f"{path}: its images of {width}x{height} pixels cannot be grids of {grid} x {grid}; {REMEDY}",
    )
    require(
        stored <= max(_SMALL, _GROWTH * n_bytes) and stored * grid**2 <= max(_SMALL_GRIDS, _GRID_GROWTH * n_bytes),
        f"{path}: {len(encoded)} images of {width}x{height} pixels, grid {grid}, in {n_bytes:,} bytes would fill the "
        f"memory; {REMEDY}",
    )
    images = np.empty((len(encoded), height, width, 3), dtype=np.uint8)
    for row, (data, name) in enumerate(encoded):
        images[row] = np.asarray(open_image(data, name, "pull it again", size).convert("RGB"))
    return images
