"""`parquet`: a Parquet file of the Hugging Face hub, or a folder of them, of which the split `train` is read.

Columns and class names are found by the metadata, as for the image source `parquet`. Sets that declare no label are
common (`class_id`): then the only column of integers is the label. Pictures are decoded at their original size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcpipe.images.parquet import ParquetSplit, parquet
from dcpipe.images.shard_files import shards_of
from dcpipe.interop.pictures import squares
from dcpipe.interop.sets.base import Format, Found, Options, Source, the_one
from dcpipe.store.documents import reading
from dcpipe.types import DataError, require

_SUFFIX = ".parquet"
_MAGIC = b"PAR1"
# What the image source calls its options, and what the command calls them.
_WORDS = {
    "images.options.classes": "--classes",
    "images.options.image_column": "--image-column",
    "images.options.label_column": "--label-column",
    "set image_column and label_column": "give --image-column and --label-column",
}


def owns(source: Source) -> bool:
    """A Parquet file, or a folder with one."""
    return bool(_files(source.path)) if source.is_folder else source.begins_with(_MAGIC)


def read(source: Source, options: Options) -> Found:
    """All rows of the file or split."""
    files = _files(source.path)
    folder, split = (files[0].parent, files[0].name) if len(files) == 1 else (source.path, "train")
    require(not set("{}") & set(split), f"{files[0]} has braces in its name, which stand for several files; rename it")
    columns: dict[str, Any] = {"label_column": options.label_column or _only_integers(files[0])}
    with _in_words_of_the_command():
        named = vars(parquet)["count_classes"](path=str(folder), train=split, **columns) is not None
        classes = None if named or options.classes is None else list(options.classes)
        columns |= {"image_column": options.image_column, "classes": classes}
        found = parquet(path=str(folder), train=split, test=split, **columns)["train"]
    assert isinstance(found, ParquetSplit)
    pixels = squares(found.read(np.arange(len(found.labels))), "releases have square images; crop them")
    note = f"images are in column {found.column!r} of {len(files)} file{'s' if len(files) > 1 else ''}"
    return Found(pixels, found.labels, tuple(files), classes=found.classes, finished=True, notes=(note,))


def _files(path: Path) -> list[Path]:
    """The file itself; of a folder the files of its split `train`, or its only file."""
    if not path.is_dir():
        return [path]
    split = [Path(str(file)) for file in shards_of(path, "train", _SUFFIX)]
    if split:
        return split
    others = sorted(file for folder in (path, path / "data") for file in folder.glob(f"*{_SUFFIX}"))
    return [the_one(others, path)] if others else []


def _only_integers(file: Path) -> str | None:
    """The only column of integers of a file that neither has a column `label` nor declares one."""
    with reading(file, "Parquet", "download it again"):
        schema = pq.read_schema(file)
    if "label" in schema.names or b"ClassLabel" in (schema.metadata or {}).get(b"huggingface", b""):
        return None
    whole = [field.name for field in schema if pa.types.is_integer(field.type) and field.name != "id"]
    return whole[0] if len(whole) == 1 else None


@contextmanager
def _in_words_of_the_command() -> Iterator[None]:
    """Errors of the image source, with the options of the command as remedies."""
    try:
        yield
    except DataError as error:
        told = str(error)
        for theirs, ours in _WORDS.items():
            told = told.replace(theirs, ours)
        raise DataError(told) from error


FORMAT = Format("Parquet of the Hugging Face hub", lambda source: [], owns, read)
