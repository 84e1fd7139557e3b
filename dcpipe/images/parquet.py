"""`parquet`: a folder of Parquet files in the Hugging Face convention, read row group by row group.

The files are found as `shard_files` describes, usually as `SPLIT-*.parquet`, on this machine or at a URL. The column
`image` is struct<bytes, path> or plain binary, `label` is an integer or a class name, and the class names are in the
`huggingface` metadata of the schema. Large types, views and dictionaries of Arrow are read as the plain ones. All
labels are read at once (8 bytes per image); of the encoded images, only the row groups that contain the requested rows
are read. Footers are read once and kept, so that of a remote file, too, nothing else is read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    reads_files,
    train_and_test,
)
from dcpipe.images.places import Place, Remote, open_file, overlapping, relative
from dcpipe.images.shard_files import files_of, folder_of, shards_of, some_names, splits_of
from dcpipe.store import urls
from dcpipe.store.documents import reason, shown
from dcpipe.types import DataError, Elsewhere, IntArray, require

SUFFIX = ".parquet"
USUAL_LABELS = ("labels", "class", "category", "target", "y")
MOST_NUMBERED = 1000  # classes without names


@dataclass(frozen=True, eq=False)
class Shard:
    """A Parquet file, and its size in bytes and its footer (pyarrow's `FileMetaData`) where they are known already."""

    file: Place
    size: int | None = None
    footer: Any = None

    def open(self) -> Any:
        """The file, opened for reading; raises `DataError` if it is not Parquet."""
        where = open_file(self.file, self.size) if isinstance(self.file, Remote) else self.file
        return _guarded(self.file, lambda: pq.ParquetFile(where, metadata=self.footer))


@dataclass(frozen=True, eq=False)
class ParquetSplit:
    """One split; `ends[i]` is the number of rows in shards 0..i. `unnamed`: the class names are those that labels are
    written as."""

    root: Place
    classes: tuple[str, ...]
    labels: IntArray
    shards: tuple[Shard, ...]
    ends: IntArray
    column: str
    unnamed: bool = False

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        images = []
        for shard, inside in self._by_shard(rows):
            images += pick(shard, inside, self.column)
        return images

    @property
    def elsewhere(self) -> Elsewhere:
        return Elsewhere(str(self.root), self.column)

    def where(self, rows: IntArray) -> list[Where]:
        return [
            Where(relative(shard.file, self.root), row=row)
            for shard, inside in self._by_shard(rows)
            for row in inside.tolist()
        ]

    def _by_shard(self, rows: IntArray) -> list[tuple[Shard, IntArray]]:
        """The shards that contain these ascending rows, and which of their own rows these are."""
        check_ascending(rows, len(self.labels), str(self.root))
        places = np.searchsorted(self.ends, rows, side="right")
        starts = np.concatenate([[0], self.ends[:-1]])
        return [(self.shards[shard], rows[places == shard] - starts[shard]) for shard in np.unique(places)]


def _count(
    *,
    path: str,
    train: str = "train",
    classes: list[str] | None = None,
    label_column: str | None = None,
    **others: Any,
) -> int | None:
    """The number of class names in the options, or else in the metadata of the first file; None if neither has them."""
    if classes is not None:
        return len(classes)
    files = shards_of(folder_of(path, "parquet"), train, SUFFIX)
    if not files:
        return None
    first = _opened(files[0])
    names = _class_names(first, label_column or _column_of(first, "label", "ClassLabel", "label_column"))
    return None if names is None else len(names)


def _paths(*, path: str, **options: Any) -> list[Place]:
    return files_of(folder_of(path, "parquet"), SUFFIX, **options)


@reads_files(_paths)
@counts_classes(_count)
@validated("image source 'parquet'")
def parquet(
    *,
    path: str,
    train: str = "train",
    test: str = "test",
    classes: list[str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    test_share: PositiveShare | None = None,
    seed: Seed = 0,
) -> dict[str, Source]:
    """The splits of a Parquet folder.

    Args:
        path: the folder, or its URL.
        train, test: names of the splits, or of their files (see `shard_files`). If `test` is left at "test" and there
            is no such split, the first of "validation", "valid" and "val" that exists is used.
        classes: class names in label order, for a set that does not contain them, or to rename its classes. If labels
            are texts and nothing names the classes, they are the labels of `train`, sorted (numbers as such).
        image_column, label_column: names of the columns. By default they are "image" and "label", or else the only
            column that is an Image, and the only one that is a ClassLabel, in the metadata.
        test_share, seed: this share of every class of `train` becomes test, drawn by `seed`; `test` is not read then.

    Raises `DataError` for a missing folder, split or shard, unreadable files, columns of the wrong type and bad labels.
    """
    root = folder_of(path, "parquet")
    given = None if classes is None else class_list(classes)
    splits: list[ParquetSplit] = []
    for split, files in splits_of(root, SUFFIX, train=train, test=test, test_share=test_share):
        if not files:
            found = some_names(root, SUFFIX, "no Parquet files")
            raise DataError(
                f"{path} has no {split}-*.parquet (found {found}); correct path or the name of the split, or, where "
                "test images are missing, set images.options.test_share: 0.2"
            )
        splits.append(_split(root, files, given, image_column, label_column))
        given = given or (splits[0].classes if splits[0].unnamed else None)
    return train_and_test(splits, test_share, seed, str(root))


def _split(
    root: Place, files: list[Place], given: tuple[str, ...] | None, image_column: str | None, label_column: str | None
) -> ParquetSplit:
    first = _opened(files[0])
    images = image_column or _column_of(first, "image", "Image", "image_column")
    labelled = label_column or _column_of(first, "label", "ClassLabel", "label_column")
    named = _class_names(first, labelled)
    if given is not None and named is not None:
        require(
            len(given) == len(named),
            f"{files[0]} has {len(named)} classes but images.options.classes has {len(given)}; give one name per class",
        )
    is_remote = isinstance(root, Remote)
    shards = (first, *overlapping(_opened, files[1:], is_remote))
    values = overlapping(lambda shard: _values(shard, images, labelled), shards, is_remote)
    classes = given or named or _texts(values)
    if classes is None:
        raise DataError(f"{files[0]} does not name its classes; give images.options.classes in label order")
    labels = [_labels(shard.file, labelled, part, classes) for shard, part in zip(shards, values, strict=True)]
    ends = np.cumsum([len(part) for part in labels], dtype=np.int64)
    unnamed = given is None and named is None
    return ParquetSplit(root, classes, np.concatenate(labels), shards, ends, images, unnamed)


def _column_of(shard: Shard, usual: str, feature: str, option: str) -> str:
    """The column with a usual name, or the only one that the metadata calls an Image or a ClassLabel, or the only one
    that has the bytes of files."""
    with shard.open() as file:
        schema = file.schema_arrow
    if usual in schema.names:
        return usual
    declared = {name: kind.get("_type") for name, kind in _features(shard).items() if isinstance(kind, dict)}
    found = [name for name in schema.names if declared.get(name) == feature]
    if not found and feature == "Image":
        found = [name for name in schema.names if _is_binary(_content(schema.field(name).type))]
    require(
        len(found) == 1,
        f"{shard.file} has no column {usual!r}, only {', '.join(schema.names)}; set images.options.{option} to one of "
        "them",
    )
    return str(found[0])


def class_columns(root: Place, train: str) -> tuple[dict[str, Any], str]:
    """Options for the labels of a set that the source would refuse without them, and a sentence about the choice.

    Of several columns that are class labels, the one with the most classes is chosen. Integers without names are
    numbered classes.
    """
    shard = _opened(shards_of(root, train, SUFFIX)[0])
    with shard.open() as file:
        schema = file.schema_arrow
    options: dict[str, Any] = {}
    note = ""
    labelled = "label"
    if labelled not in schema.names:
        counts = {name: len(names) for name in schema.names if (names := _class_names(shard, name)) is not None}
        usual = [name for name in schema.names if name.lower() in USUAL_LABELS]
        if len(counts) > 1:
            labelled = max(counts, key=counts.__getitem__)
            note = f"of the labels {', '.join(counts)}, {labelled} has the most classes"
        elif not counts and usual:
            labelled, note = usual[0], f"the labels are in the column {usual[0]}"
        else:
            return {}, ""
        options["label_column"] = labelled
    if _class_names(shard, labelled) is None and pa.types.is_integer(schema.field(labelled).type):
        files = shards_of(root, train, SUFFIX)
        largest = max(_guarded(other, partial(_largest, other, labelled)) for other in files)
        require(largest < MOST_NUMBERED, f"{shard.file} has the label {largest:,}; give images.options.classes")
        options["classes"] = [str(number) for number in range(largest + 1)]
        note = f"{note}; the classes have no names, so they are numbers".removeprefix("; ")
    return options, note


def _largest(file: Place, column: str) -> int:
    """The largest label in a file."""
    with _opened(file).open() as opened:
        return int(pc.max(opened.read(columns=[column]).column(0)).as_py() or 0)


def _texts(values: Sequence[Any]) -> tuple[str, ...] | None:
    """The class names of labels that are texts, in order; None if they are numbers."""
    if not all(_is_text(part.type) for part in values):
        return None
    return in_order({name for part in values for name in part.unique().to_pylist()})


def _opened(file: Place) -> Shard:
    """A file with its footer."""
    shard = Shard(file, urls.stat(file.url).size if isinstance(file, Remote) else None)
    with shard.open() as opened:
        return replace(shard, footer=opened.metadata)


def _features(shard: Shard) -> dict[str, Any]:
    """The description of each column in the metadata of Hugging Face; empty without it."""
    with shard.open() as file:
        stored = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if stored is None:
        return {}
    try:
        return dict(json.loads(stored)["info"]["features"])
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(
            f"{shard.file}: its 'huggingface' metadata is damaged ({type(error).__name__}: {reason(error)}); "
            "write the file again"
        ) from error


def _class_names(shard: Shard, label_column: str) -> tuple[str, ...] | None:
    described = _features(shard).get(label_column, {})
    names = described.get("names") if isinstance(described, dict) else None
    try:
        return None if names is None else class_list(names)
    except DataError as error:
        raise DataError(
            f"{shard.file}: the class names in its 'huggingface' metadata must be a list of texts, got {shown(names)}; "
            "write the file again"
        ) from error


def _values(shard: Shard, image_column: str, label_column: str) -> Any:
    """The labels of a shard as they are stored, integers or texts, after a check of both columns."""
    path = shard.file
    with shard.open() as file:
        schema = file.schema_arrow
        for column in (image_column, label_column):
            require(
                column in schema.names,
                f"{path} has no column {column!r}, only {', '.join(schema.names)}; set image_column and label_column",
            )
        require(
            _is_binary(_content(schema.field(image_column).type)),
            f"{path}: column {image_column!r} is {schema.field(image_column).type}, expected struct<bytes, path> or "
            "binary, with the bytes of an image file in each row; write the images in that form",
        )
        kind = schema.field(label_column).type
        values: Any = _guarded(path, lambda: file.read(columns=[label_column]).column(0))
    require(values.null_count == 0, f"{path}: {values.null_count} labels are null; give every image a label")
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        values = _guarded(path, lambda: values.cast(kind))
    require(
        _is_text(kind) or pa.types.is_integer(kind),
        f"{path}: column {label_column!r} is {kind}, expected integers; encode the labels as integers",
    )
    return values


def _labels(path: Place, label_column: str, values: Any, classes: tuple[str, ...]) -> IntArray:
    """Labels i64 of a shard."""
    if _is_text(values.type):
        return _indices(path, label_column, values.to_pylist(), classes)
    found = values.to_numpy()
    largest = int(found.max(initial=0))
    require(largest <= sys.maxsize, f"{path}: label {largest} is too large; number the classes from 0")
    labels: IntArray = found.astype(np.int64)
    require(
        len(labels) == 0 or int(labels.min()) >= 0,
        f"{path}: some labels are negative (hidden, as in many test sets); choose a split whose labels are public",
    )
    return labels


def _indices(path: Place, column: str, names: list[str], classes: tuple[str, ...]) -> IntArray:
    """Labels that are written as class names, as indices."""
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(names).difference(index))
    require(
        not unknown,
        f"{path}: label {(unknown or [''])[0]!r} of column {column!r} is not on the class list; correct "
        "images.options.classes",
    )
    return np.array([index[name] for name in names], dtype=np.int64)


def _content(kind: Any) -> Any:
    """The type of the field `bytes` of a struct that has one; any other type as it is."""
    return kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind


def _is_binary(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_text(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _guarded(path: Place, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as Parquet ({reason}); download or build it again") from error


def _images(file: Any, group: int, column: str) -> Any:
    return file.read_row_group(group, columns=[column], use_threads=False).column(0)


def pick(shard: Shard, rows: IntArray, column: str = "image") -> list[tuple[bytes, str]]:
    """(bytes, name) of ascending rows of one file; only their row groups are read, one at a time."""
    picked: list[tuple[bytes, str]] = []
    path = shard.file
    with shard.open() as file:
        meta = file.metadata
        ends = np.cumsum([meta.row_group(group).num_rows for group in range(meta.num_row_groups)], dtype=np.int64)
        if len(rows) and rows[-1] >= meta.num_rows:
            raise DataError(f"{path} has {meta.num_rows:,} rows, but not row {rows[-1]:,}; restore it, or run again")
        groups = np.searchsorted(ends, rows, side="right")
        for group in np.unique(groups):
            group_rows = rows[groups == group]
            inside = group_rows - (ends[group - 1] if group else 0)
            images = _guarded(path, partial(_images, file, int(group), column))
            # Not `take`, which has no kernel for binary views.
            for row, entry in zip(group_rows.tolist(), (images[int(i)].as_py() for i in inside), strict=True):
                content, name = (entry.get("bytes"), entry.get("path")) if isinstance(entry, dict) else (entry, None)
                if content is None:
                    raise DataError(f"{path}: row {row} has no image bytes; embed the files in the Parquet set")
                picked.append((content, name if isinstance(name, str) and name else f"{path.name}:{row}"))
    return picked
