"""`csv`: a folder of image files, and a CSV or TSV file that gives the name and the class of each, on this machine or
in an object store.

People write such lists in many ways. A file may be named by its path below the folder, by its name alone, or by its
name without the suffix; whichever of them finds one file is taken. Unless the options name them, the columns are found
by what is in them: the one whose entries are files, and one with a usual name for the other purposes.
"""

from __future__ import annotations

import csv as csv_format
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dcpipe.config.options import validated
from dcpipe.config.values import PositiveShare, Seed
from dcpipe.images.base import Source, class_list, in_order, reads_files, train_and_test
from dcpipe.images.folder import SUFFIXES, FolderSplit
from dcpipe.images.listing import files_below
from dcpipe.images.places import Place, Remote, place, read_file
from dcpipe.images.shard_files import TEST_NAMES
from dcpipe.store.documents import shown
from dcpipe.types import DataError, require

LISTS = (".csv", ".tsv")
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "y", "species", "breed")
SPLIT_NAMES = ("split", "set", "subset", "partition", "dataset", "usage")
TRAIN_NAMES = ("train", "training")
_LOOKED_AT = 200  # rows that decide which column has the files
_ENOUGH = 0.5  # of these, which must be files


@dataclass(frozen=True)
class Table:
    """The rows of a list, without its header."""

    file: Place
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> list[str]:
        """The entries of a column. Raises `DataError` if there is none of this name."""
        require(
            name in self.columns,
            f"{self.file} has no column {name!r}, only {', '.join(self.columns)}; correct images.options",
        )
        place_of = self.columns.index(name)
        return [row[place_of] for row in self.rows]


class Files:
    """The images below a folder, by whatever may name them."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self.sizes = {
            found.name: found.size
            for found in files_below(folder)
            if PurePosixPath(found.name).suffix.lower() in SUFFIXES and not found.lost
        }
        require(bool(self.sizes), f"{folder} has no images ({', '.join(sorted(SUFFIXES))}); correct the path")
        paths = [PurePosixPath(name) for name in self.sizes]
        self._short: dict[str, str] = {}
        for names in ([path.name for path in paths], [path.stem for path in paths]):
            counts = Counter(names)
            new = {name: str(path) for name, path in zip(names, paths, strict=True) if counts[name] == 1}
            self._short = {**new, **self._short}

    def find(self, name: str) -> str | None:
        """The file that is named, as a path below the folder; None if there is none, or if several have this name."""
        plain = name.strip().replace("\\", "/").removeprefix("./")
        if plain in self.sizes:
            return plain
        last = plain.rpartition("/")[2]
        if (below := plain.partition("/")[2]) in self.sizes:  # the list names the folder too
            return below
        return self._short.get(last) if last else None


def _root(path: str, folder: str | None) -> Place:
    """The folder of the images: by default that of the list."""
    listed = place(path)
    require(
        not (isinstance(listed, Remote) and listed.is_web),
        f"images.options.path {listed} is on a web server, which has no list of files; copy the images to this machine",
    )
    if folder is not None:
        return place(folder)
    return Remote(listed.url.rpartition("/")[0]) if isinstance(listed, Remote) else listed.parent


def _paths(*, path: str, images: str | None = None, test: str | None = None, **others: Any) -> list[Place]:
    lists = [place(path), *([_beside(path, test)] if test is not None and test.endswith(LISTS) else [])]
    return [_root(path, images), *lists]


def _beside(path: str, name: str) -> Place:
    return _root(path, None) / name


@reads_files(_paths)
@validated("image source 'csv'")
def csv(
    *,
    path: str,
    images: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    train: str | None = None,
    test: str | None = None,
    classes: list[str] | None = None,
    test_share: PositiveShare | None = None,
    seed: Seed = 0,
) -> dict[str, Source]:
    """The images that the list `path` names.

    Args:
        path: a .csv file, whose columns are separated by commas, semicolons or tabs, or a .tsv file; or its URL.
        images: the folder of the images, by default that of the list.
        image_column, label_column: columns with the file and its class. By default they are the column whose entries
            are files, and one with a usual name (label, class, category, …), or the only other one. Without a header,
            columns are called 1, 2, ….
        split_column: the column that says what is train and test; by default one called split, set, subset, partition,
            dataset or usage.
        train, test: what it says there, by default train or training, and the first of test, testing, validation,
            valid and val that occurs. `test` may also be a second list, a file beside the first one.
        classes: class names in label order; by default the labels of train, sorted, as numbers where all are integers.
        test_share, seed: this share of every class of train becomes test, drawn by `seed`.

    Images that the list does not name are not used. Raises `DataError` for a list that cannot be read, files that it
    names but that are not there or are named twice with different classes, and columns that cannot be told apart.
    """
    files, table = Files(_root(path, images)), read_table(place(path))
    table = named_columns(table, files)
    columns = find_columns(table, files, image_column, label_column, split_column)
    train_rows, test_rows = table, None
    if columns.split is not None:
        train_rows = _part(table, columns.split, (train,) if train else TRAIN_NAMES, "train")
        if test_share is None and not (test or "").endswith(LISTS):
            test_rows = _part(table, columns.split, (test,) if test else ("testing", *TEST_NAMES), "test")
    elif test_share is None:
        require(
            test is not None and test.endswith(LISTS),
            f"{path} does not say which images are test; set images.options.test_share: 0.2, or split_column, or "
            "test: the name of a second list",
        )
    if test_rows is None and test_share is None:
        test_rows = named_columns(read_table(_beside(path, test or "")), files)
    given = None if classes is None else class_list(classes)
    splits = [_split(train_rows, columns, files, given)]
    if test_rows is not None:
        splits.append(_split(test_rows, columns, files, splits[0].classes))
    return train_and_test(splits, test_share, seed, path)


@dataclass(frozen=True)
class Columns:
    """The columns with the files, the labels, and what is train and test."""

    image: str
    label: str
    split: str | None


def find_columns(
    table: Table, files: Files, image: str | None = None, label: str | None = None, split: str | None = None
) -> Columns:
    """The columns that are named, and those that can be found. Raises `DataError` where they cannot be told apart."""
    image = image or _column_of_files(table, files)
    rest = [name for name in table.columns if name != image]
    by_name = {name.strip().lower(): name for name in reversed(rest)}
    split = split or next((by_name[name] for name in SPLIT_NAMES if by_name.get(name, label) != label), None)
    rest = [name for name in rest if name != split]
    label = label or next((by_name[name] for name in LABEL_NAMES if by_name.get(name) in rest), None)
    if label is None:
        require(
            len(rest) == 1,
            f"{table.file} has columns {', '.join(table.columns)}, and none of those without files is called "
            f"{', '.join(LABEL_NAMES[:5])}; set images.options.label_column",
        )
        [label] = rest
    for name in (image, label, *([split] if split else [])):
        table.column(name)
    return Columns(image, label, split)


def read_table(file: Place) -> Table:
    """The rows of a list. Raises `DataError` for a file that is no text or whose rows differ in length."""
    content = read_file(file, what="list")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    first = text.partition("\n")[0]
    separator = "\t" if file.name.endswith(".tsv") else max(",;\t|", key=first.count)
    try:
        rows = [tuple(row) for row in csv_format.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv_format.Error as error:
        raise DataError(f"{file} cannot be read as a list with columns ({error}); correct it") from error
    require(bool(rows), f"{file} is empty; give a list with a file and its class in every line")
    for number, row in enumerate(rows, start=1):
        require(
            len(row) == len(rows[0]),
            f"{file}: row {number} has {len(row)} columns, but the first has {len(rows[0])}; correct it",
        )
    return Table(file, tuple(rows[0]), tuple(rows[1:]))


def named_columns(table: Table, files: Files) -> Table:
    """The table, whose first row is its header unless it names a file."""
    if not any(files.find(name) for name in table.columns):
        require(
            len(set(table.columns)) == len(table.columns),
            f"{table.file}: the names of its columns repeat ({', '.join(table.columns)}); make them distinct",
        )
        return table
    return replace(
        table, columns=tuple(str(n + 1) for n in range(len(table.columns))), rows=(table.columns, *table.rows)
    )


def _column_of_files(table: Table, files: Files) -> str:
    """The column of which most entries are files, and most of them different ones: labels may be names of files too."""
    first = table.rows[:_LOOKED_AT]
    found = [[files.find(row[column]) for row in first] for column in range(len(table.columns))]
    distinct = [len(set(names) - {None}) for names in found]
    best = distinct.index(max(distinct))
    require(
        distinct[best] > 0 and sum(name is not None for name in found[best]) >= _ENOUGH * len(first),
        f"{table.file} has no column of which most entries are files in {files.folder}; it has "
        f"{', '.join(table.columns)}: correct images.options.images, or set image_column",
    )
    return table.columns[best]


def _part(table: Table, column: str, names: Sequence[str], split: str) -> Table:
    """The rows that belong to a split: those with the first of the names that occurs."""
    values = [value.strip().lower() for value in table.column(column)]
    name = next((name for name in names if name.lower() in values), None)
    if name is None:
        present = ", ".join(shown(value) for value in list(dict.fromkeys(values))[:5])
        raise DataError(
            f"{table.file}: column {column!r} has none of {', '.join(names)}, only {present}; set "
            f"images.options.{split}, or, where test images are missing, test_share: 0.2"
        )
    return replace(
        table, rows=tuple(row for row, value in zip(table.rows, values, strict=True) if value == name.lower())
    )


def _split(table: Table, columns: Columns, files: Files, given: tuple[str, ...] | None) -> FolderSplit:
    """The images of some rows, sorted by file, and their labels."""
    labels = dict(_labelled(table, columns, files))
    classes = given or in_order(set(labels.values()))
    index = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(labels.values()).difference(index))
    require(
        not unknown,
        f"{table.file}: class {shown((unknown or [''])[0])} is not on the class list; correct images.options.classes",
    )
    names = sorted(labels)
    return FolderSplit(
        files.folder,
        classes,
        np.array([index[labels[name]] for name in names], dtype=np.int64),
        tuple(names),
        np.array([files.sizes[name] for name in names], dtype=np.int64),
    )


def _labelled(table: Table, columns: Columns, files: Files) -> Iterator[tuple[str, str]]:
    """The file and the class of each row."""
    entries, first = table.column(columns.image), dict[str, str]()
    found = [files.find(entry) for entry in entries]
    missing = [entry for entry, file in zip(entries, found, strict=True) if file is None]
    require(
        not missing,
        f"{table.file}: {len(missing):,} of {len(entries):,} files are not in {files.folder}, or several have their "
        f"name, first {shown((missing or [''])[0])}; correct images.options.images, or restore the files",
    )
    for file, label in zip(found, (value.strip() for value in table.column(columns.label)), strict=True):
        assert file is not None
        require(label != "", f"{table.file} gives no class to {shown(file)}; add it, or remove the row")
        require(
            first.setdefault(file, label) == label,
            f"{table.file} gives {shown(file)} to classes {shown(first[file])} and {shown(label)}; keep one row",
        )
        yield file, label


def is_list(name: str) -> bool:
    """Whether a file is a list, by its name."""
    return Path(name).suffix.lower() in LISTS
