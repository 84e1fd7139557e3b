"""`parquet`: a folder of Parquet files in the Hugging Face convention, read row group by row group.

The files `SPLIT-*.parquet` are in the folder or in its subfolder `data/`. The column `image` is struct<bytes, path> or
plain binary, `label` is an integer or a class name, and the class names are in the `huggingface` metadata of the
schema. Large types, views and dictionaries of Arrow are read as the plain ones. All labels are read at once (8 bytes
per image); of the encoded images, only the row groups that contain the requested rows are read.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcpipe.config.options import validated
from dcpipe.images.base import Source, check_ascending, checked, class_list, counts_classes, reads_files
from dcpipe.store.documents import reason, shown
from dcpipe.types import DataError, IntArray, require

_TEST_NAMES = ("test", "validation", "valid", "val")


@dataclass(frozen=True, eq=False)
class ParquetSplit:
    """One split; `ends[i]` is the number of rows in files 0..i."""

    classes: tuple[str, ...]
    labels: IntArray
    files: tuple[Path, ...]
    ends: IntArray
    image_column: str

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        check_ascending(rows, len(self.labels), str(self.files[0].parent))
        places = np.searchsorted(self.ends, rows, side="right")
        starts = np.concatenate([[0], self.ends[:-1]])
        images = []
        for place in np.unique(places):
            images += pick(self.files[place], rows[places == place] - starts[place], self.image_column)
        return images


def _count(
    *, path: str, train: str = "train", classes: list[str] | None = None, label_column: str = "label", **others: str
) -> int | None:
    """The number of class names in the options, or else in the metadata of the first file; None if neither has them."""
    files = _files(_folder(path), train)
    names = classes or (_class_names(files[0], label_column) if files else None)
    return None if names is None else len(names)


def _paths(*, path: str, train: str = "train", test: str = "test", **others: Any) -> list[Path]:
    root = _folder(path)
    return [*_files(root, train), *_test_files(root, test)]


@reads_files(_paths)
@counts_classes(_count)
@validated("image source 'parquet'")
def parquet(
    *,
    path: str,
    train: str = "train",
    test: str = "test",
    classes: list[str] | None = None,
    image_column: str = "image",
    label_column: str = "label",
) -> dict[str, Source]:
    """The splits of a Parquet folder.

    Args:
        path: the folder.
        train, test: names of the splits. If `test` is left at "test" and there is no such split, the first of
            "validation", "valid" and "val" that exists is used.
        classes: class names in label order, for a set that does not contain them, or to rename its classes.
        image_column, label_column: names of the columns.

    Raises `DataError` for a missing folder, split or shard, unreadable files, columns of the wrong type and bad labels.
    """
    root = _folder(path)
    test_files = _test_files(root, test)
    splits = []
    given = None if classes is None else class_list(classes)
    for split, files in ((train, _files(root, train)), (test, test_files)):
        require(
            bool(files),
            f"{path} has no {split}-*.parquet (found {_parquet_files(root)}); correct path or the name of the split",
        )
        splits.append(_split(tuple(files), given, image_column, label_column))
    return checked(splits[0], splits[1], str(root))


def _folder(path: str) -> Path:
    require(Path(path).is_dir(), f"parquet folder {path} not found; correct images.options.path")
    return Path(path)


def _files(root: Path, split: str) -> list[Path]:
    """The shards of a split in order, from the folder or its `data/`; none that their names promise may be missing."""
    for folder in (root, root / "data"):
        # Not a pattern, because the name of the split may contain signs that mean something in one.
        start = folder / f"{split}-"
        files = sorted(file for file in start.parent.glob("*.parquet") if file.name.startswith(start.name))
        for file in files:
            promised = re.search(r"-of-(\d+)", file.name)
            require(
                promised is None or int(promised[1]) == len(files),
                f"{folder} has {len(files)} shards of {split!r} but {file.name} promises "
                f"{int(promised[1]) if promised else 0}; download the missing ones or remove stray files",
            )
        if files:
            return files
    return []


def _test_files(root: Path, test: str) -> list[Path]:
    """The shards of the split `test`, or of the first of its usual names that exists."""
    names = _TEST_NAMES if test == "test" else (test,)
    return next((files for name in names if (files := _files(root, name))), [])


def _parquet_files(root: Path) -> str:
    names = sorted(file.name for folder in (root, root / "data") for file in folder.glob("*.parquet"))
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "no Parquet files"


def _split(
    files: tuple[Path, ...], given: tuple[str, ...] | None, image_column: str, label_column: str
) -> ParquetSplit:
    named = _class_names(files[0], label_column)
    if given is not None and named is not None:
        require(
            len(given) == len(named),
            f"{files[0]} has {len(named)} classes but images.options.classes has {len(given)}; give one name per class",
        )
    classes = given or named
    if classes is None:
        raise DataError(f"{files[0]} does not name its classes; give images.options.classes in label order")
    labels = [_labels(file, image_column, label_column, classes) for file in files]
    ends = np.cumsum([len(part) for part in labels], dtype=np.int64)
    return ParquetSplit(classes, np.concatenate(labels), files, ends, image_column)


def _class_names(path: Path, label_column: str) -> tuple[str, ...] | None:
    with open_parquet(path) as file:
        stored = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        names = json.loads(stored)["info"]["features"].get(label_column, {}).get("names")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: its 'huggingface' metadata is damaged ({type(error).__name__}: {reason(error)}); "
            "write the file again"
        ) from error
    try:
        return None if names is None else class_list(names)
    except DataError as error:
        raise DataError(
            f"{path}: the class names in its 'huggingface' metadata must be a list of texts, got {shown(names)}; "
            "write the file again"
        ) from error


def _labels(path: Path, image_column: str, label_column: str, classes: tuple[str, ...]) -> IntArray:
    with open_parquet(path) as file:
        schema = file.schema_arrow
        for column in (image_column, label_column):
            require(
                column in schema.names,
                f"{path} has no column {column!r}, only {', '.join(schema.names)}; set image_column and label_column",
            )
        kind = schema.field(image_column).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        require(
            _is_binary(kind),
            f"{path}: column {image_column!r} is {schema.field(image_column).type}, expected struct<bytes, path> or "
            "binary, with the bytes of an image file in each row; write the images in that form",
        )
        kind = schema.field(label_column).type
        values: Any = _guarded(path, lambda: file.read(columns=[label_column]).column(0))
    require(values.null_count == 0, f"{path}: {values.null_count} labels are null; give every image a label")
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        values = _guarded(path, lambda: values.cast(kind))
    if _is_text(kind):
        return _indices(path, label_column, values.to_pylist(), classes)
    require(
        pa.types.is_integer(kind),
        f"{path}: column {label_column!r} is {kind}, expected integers; encode the labels as integers",
    )
    found = values.to_numpy()
    largest = int(found.max(initial=0))
    require(largest <= sys.maxsize, f"{path}: label {largest} is too large; number the classes from 0")
    labels: IntArray = found.astype(np.int64)
    require(
        len(labels) == 0 or int(labels.min()) >= 0,
        f"{path}: some labels are negative (hidden, as in many test sets); choose a split whose labels are public",
    )
    return labels


def _indices(path: Path, column: str, names: list[str], classes: tuple[str, ...]) -> IntArray:
    """Labels that are written as class names, as indices."""
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(names).difference(index))
    require(
        not unknown,
        f"{path}: label {(unknown or [''])[0]!r} of column {column!r} is not on the class list; correct "
        "images.options.classes",
    )
    return np.array([index[name] for name in names], dtype=np.int64)


def _is_binary(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_text(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def open_parquet(path: Path) -> Any:
    """A Parquet file, opened for reading; raises `DataError` if it is not one."""
    return _guarded(path, lambda: pq.ParquetFile(path))


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as Parquet ({reason}); download or build it again") from error


def _images(file: Any, group: int, column: str) -> Any:
    return file.read_row_group(group, columns=[column], use_threads=False).column(0)


def pick(path: Path, rows: IntArray, column: str = "image") -> list[tuple[bytes, str]]:
    """(bytes, name) of ascending rows of one file; only their row groups are read, one at a time."""
    picked: list[tuple[bytes, str]] = []
    with open_parquet(path) as file:
        meta = file.metadata
        ends = np.cumsum([meta.row_group(group).num_rows for group in range(meta.num_row_groups)], dtype=np.int64)
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
