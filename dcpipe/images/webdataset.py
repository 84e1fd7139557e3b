"""`webdataset`: tar shards in the form of WebDataset, on this machine or at a URL, read at random.

The first time that a shard is opened, one pass over it finds where its images are (`tars`); a remote shard is read
whole for it. What was found is kept in scratch, until the shard changes. After that, an image is one read of exactly
its bytes, so that shards need not be read in order, and any process can read any images.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcpipe.config.options import validated
from dcpipe.config.values import PositiveShare, Seed
from dcpipe.images.base import (
    Source,
    Where,
    check_ascending,
    class_list,
    counts_classes,
    in_order,
    reads_everything,
    reads_files,
    train_and_test,
)
from dcpipe.images.listing import file_at
from dcpipe.images.places import Piece, Place, Remote, open_file, overlapping, read_pieces, relative
from dcpipe.images.shard_files import files_of, folder_of, some_names, splits_of
from dcpipe.images.tars import SCHEMA, read_index
from dcpipe.store.artifact import digest_of
from dcpipe.store.documents import shown
from dcpipe.store.files import replacing
from dcpipe.store.staging import index_folder
from dcpipe.types import DataError, Elsewhere, IntArray, require
from dcpipe.types.paths import is_url

SUFFIX = ".tar"
MOST_CLASSES = 1_000_000
_AHEAD = 2**23  # bytes that one request of the pass over a remote shard asks for


@dataclass(frozen=True, eq=False)
class TarSplit:
    """One split: its shards, and for each image its place, as the number of the shard (i64), the first byte (i64), the
    bytes (i64) and the name in the archive."""

    root: Place
    classes: tuple[str, ...]
    labels: IntArray
    shards: tuple[Place, ...]
    places: IntArray
    starts: IntArray
    sizes: IntArray
    names: Any

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        check_ascending(rows, len(self.labels), str(self.root))
        pieces = [
            Piece(self.shards[shard], start, size)
            for shard, start, size in zip(
                self.places[rows].tolist(), self.starts[rows].tolist(), self.sizes[rows].tolist(), strict=True
            )
        ]
        names = [
            f"{piece.file.name}:{self.names[row].as_py()}" for piece, row in zip(pieces, rows.tolist(), strict=True)
        ]
        return list(zip(read_pieces(pieces), names, strict=True))

    @property
    def elsewhere(self) -> Elsewhere:
        return Elsewhere(str(self.root))

    def where(self, rows: IntArray) -> list[Where]:
        files = [relative(shard, self.root) for shard in self.shards]
        return [
            Where(files[shard], start=start)
            for shard, start in zip(self.places[rows].tolist(), self.starts[rows].tolist(), strict=True)
        ]


def _count(*, classes: list[str] | None = None, **others: Any) -> int | None:
    return None if classes is None else len(classes)


def _paths(*, path: str, **options: Any) -> list[Place]:
    return files_of(folder_of(path, "webdataset"), SUFFIX, **options)


@reads_everything(lambda *, path, **others: is_url(path))
@reads_files(_paths)
@counts_classes(_count)
@validated("image source 'webdataset'")
def webdataset(
    *,
    path: str,
    train: str = "train",
    test: str = "test",
    classes: list[str] | None = None,
    label_key: str = "label",
    test_share: PositiveShare | None = None,
    seed: Seed = 0,
) -> dict[str, Source]:
    """The splits of a folder of tar shards, whose samples are a `key.jpg` (or jpeg, png, webp) and a label of the key.

    Args:
        path: the folder, or its URL.
        train, test: names of the splits, or of their files (see `shard_files`): `train` is all `train-*.tar`, and
            `imagenet1k-train-{0000..1023}.tar` names 1,024 files. If `test` is left at "test" and there is no such
            split, the first of "validation", "valid" and "val" that exists is used.
        classes: class names in label order. Without them, labels that are all texts are the class names, sorted
            (numbers as such), and other classes are numbered: then every label must be a number.
        label_key: the entry of `key.json` that is the label, for images without `key.cls`. It may be the number of a
            class or its name. Images with neither have their class's name in `key.txt`.
        test_share, seed: this share of every class of `train` becomes test, drawn by `seed`; `test` is not read then.

    Raises `DataError` for missing shards, archives that are damaged or that cannot be read at random, and images
    without a label.
    """
    root = folder_of(path, "webdataset")
    given = None if classes is None else class_list(classes)
    found = []
    for split, shards in splits_of(root, SUFFIX, train=train, test=test, test_share=test_share):
        if not shards:
            names = some_names(root, (SUFFIX, ".tar.gz", ".tgz", ".tar.zst"), "no tar files")
            raise DataError(
                f"{path} has no {split}-*{SUFFIX} (found {names}); correct path or the name of the split, and unpack "
                "shards that are compressed; where test images are missing, set images.options.test_share: 0.2"
            )
        found.append((shards, overlapping(lambda shard: _index(shard, label_key), shards, isinstance(root, Remote))))
    if given is None:
        given = _names([indexes for _, indexes in found]) or _numbers(path, found[0][1])
    splits = [_split(root, shards, indexes, given) for shards, indexes in found]
    return train_and_test(splits, test_share, seed, str(root))


def _names(splits: list[list[pa.Table]]) -> tuple[str, ...] | None:
    """The class names in train, in order; None if labels of any split are numbers, which could be of another order."""
    if any(index["class"].null_count for indexes in splits for index in indexes):
        return None
    return in_order({name for index in splits[0] for name in index["class"].unique().to_pylist()})


def _numbers(path: str, indexes: list[pa.Table]) -> tuple[str, ...]:
    """Names for classes that are numbered."""
    largest = max(int(pc.max(index["label"]).as_py() or 0) for index in indexes)
    require(largest < MOST_CLASSES, f"{path} has the label {largest:,}; number the classes from 0")
    return tuple(map(str, range(largest + 1)))


def _index(shard: Place, label_key: str) -> pa.Table:
    """The samples of a shard. The pass over it is made once for each version of it."""
    file = file_at(shard)
    where = str(shard if isinstance(shard, Remote) else shard.absolute())
    version = {"shard": where, "size": file.size, "version": file.version, "label_key": label_key}
    kept = index_folder() / f"{digest_of(version)}.parquet"
    if (known := _kept(kept)) is not None:
        return known
    with open_file(shard, file.size) as raw:
        stream = io.BufferedReader(raw, _AHEAD) if isinstance(shard, Remote) else raw
        found = read_index(shard, stream, file.size, label_key)
    with replacing(kept) as partial:
        pq.write_table(found, partial)
    return found


def _kept(path: Path) -> pa.Table | None:
    """What an earlier pass has found, unless that is lost or damaged."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read() if file.schema_arrow.equals(SCHEMA) else None
    except (pa.ArrowException, OSError):
        return None


def _split(root: Place, shards: list[Place], indexes: list[pa.Table], classes: tuple[str, ...]) -> TarSplit:
    lengths = [len(index) for index in indexes]
    labels = [_labels(shard, index, classes) for shard, index in zip(shards, indexes, strict=True)]
    whole = pa.concat_tables(indexes)
    return TarSplit(
        root,
        classes,
        np.concatenate(labels),
        tuple(shards),
        np.repeat(np.arange(len(shards), dtype=np.int64), lengths),
        whole["start"].to_numpy(),
        whole["size"].to_numpy(),
        whole["name"].combine_chunks(),
    )


def _labels(shard: Place, index: pa.Table, classes: tuple[str, ...]) -> IntArray:
    """The labels of a shard's images as numbers."""
    numbers, names = index["label"], index["class"]
    if names.null_count == len(names):
        labels: IntArray = numbers.to_numpy().astype(np.int64)
        return labels
    place_of = {name: number for number, name in enumerate(classes)}
    found = []
    for image, number, name in zip(index["name"].to_pylist(), numbers.to_pylist(), names.to_pylist(), strict=True):
        require(
            number is not None or name in place_of,
            f"{shard}: the class of {shown(image)} is {shown(name)}, which is not on the class list; correct "
            "images.options.classes",
        )
        found.append(place_of[name] if number is None else number)
    return np.array(found, dtype=np.int64)
