"""Recognise what images there are at a place, by names of files and folders, and say which source reads them.

Nothing is decoded. What is looked for, in this order: shards in Parquet or tar, folders of classes below train and
test, a list in CSV with a folder of images, folders of classes. A folder that has nothing but one other folder, as
unpacked archives have, is looked into.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dcpipe.images.folder import SUFFIXES
from dcpipe.images.listed import (
    LISTS,
    TRAIN_NAMES,
    Columns,
    Files,
    Table,
    find_columns,
    is_list,
    named_columns,
    read_table,
)
from dcpipe.images.listing import files_below, is_hidden
from dcpipe.images.parquet import class_columns
from dcpipe.images.places import Place, Remote, names_in, place
from dcpipe.images.shard_files import TEST_NAMES, shards_of
from dcpipe.store.documents import shown
from dcpipe.types import DataError, require

TEST_SHARE = 0.2
TESTS = ("testing", *TEST_NAMES)
DATA = (
    "--data takes class folders (with or without splits such as train and val), a folder of images with a .csv or .tsv "
    "that gives the class of each, Parquet files, tar shards (WebDataset), the URL of one of these "
    "(hf://datasets/USER/NAME), or the name of a set of torchvision"
)
_SHARDS = {".parquet": "parquet", ".tar": "webdataset"}
_PACKED = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
_CUT = f"there are no test images, so {100 * TEST_SHARE:g} % of every class of train become test"


@dataclass(frozen=True)
class Recognised:
    """A source of images: its name, `options` without the place, why it was chosen, and the place. `place_option` is
    the option that takes it; "" if none does. `notes`: what else to know."""

    source: str
    options: dict[str, Any]
    why: str
    place: Place
    place_option: str = "path"
    notes: Sequence[str] = field(default_factory=tuple)

    def options_at(self, there: Callable[[Place], str]) -> dict[str, Any]:
        """The options, with places as `there` writes them."""
        written = {
            key: there(value) if isinstance(value, Path | Remote) else value for key, value in self.options.items()
        }
        return {self.place_option: there(self.place), **written} if self.place_option else written


@dataclass(frozen=True)
class _Folder:
    """A folder with the names of its visible files and folders."""

    root: Place
    files: list[str]
    folders: list[str]

    @classmethod
    def at(cls, root: Place) -> _Folder:
        files, folders = names_in(root)
        return cls(root, [n for n in files if not is_hidden(n)], [n for n in folders if not is_hidden(n)])

    def named(self, names: Sequence[str]) -> str | None:
        """The first of the names that a folder has, in its own spelling."""
        by_name = {name.lower(): name for name in self.folders}
        return next((by_name[name] for name in names if name in by_name), None)

    def below(self, name: str) -> _Folder:
        return _Folder.at(self.root / name)


def recognise(where: str) -> Recognised:
    """The source of the images at a path, at a URL, or of the set of torchvision with this name.

    Raises `DataError`, which says what was found and what would be recognised, for anything else.
    """
    found = place(where)
    if isinstance(found, Path) and not found.exists():
        if (of_torchvision := _torchvision(where)) is not None:
            return of_torchvision
        raise DataError(f"{where} is not there, and torchvision has no set of this name; {DATA}")
    require(
        not (isinstance(found, Remote) and found.is_web),
        f"{where} is on a web server, which has no list of files; copy the images to this machine, or give an address "
        "of s3://, gs:// or hf://",
    )
    require(
        not found.name.lower().endswith(_PACKED),
        f"{where} is a packed archive; unpack it, and give the folder that comes out",
    )
    if isinstance(found, Path) and found.is_file():
        return _file(found)
    folder = _Folder.at(found)
    for look in (_shards, _configurations, _splits, _listed, _class_folders):
        if (recognised := look(folder)) is not None:
            return recognised
    incomplete = next(filter(None, (_incomplete(folder, name) for name in folder.files if is_list(name))), "")
    if len(folder.folders) == 1 and not _images_in(folder) and not incomplete:
        return recognise(str(found / folder.folders[0]))
    require(not incomplete, incomplete)
    raise DataError(f"{where} has {_contents(folder)}, which is none of the layouts that are recognised; {DATA}")


def _file(file: Path) -> Recognised:
    """A list, or a shard that is all of train."""
    if is_list(file.name):
        found = _list(_Folder.at(file.parent), file.name)
        require(
            found is not None,
            _incomplete(_Folder.at(file.parent), file.name)
            or f"{file} has no column with files of images beside it, or none with their classes; {DATA}",
        )
        assert found is not None
        return found
    require(file.suffix in _SHARDS, f"{file} is a file; {DATA}")
    return _whole(file.parent, [file.name], file.suffix)


def _contents(folder: _Folder) -> str:
    """What a folder has, in words."""
    names = [f"{name}/" for name in folder.folders] + folder.files
    few = ", ".join(shown(name)[1:-1] for name in names[:6])
    return (
        f"{len(folder.folders):,} folders and {len(folder.files):,} files ({few}{', …' if len(names) > 6 else ''})"
        if (names)
        else "nothing in it"
    )


def _shards(folder: _Folder) -> Recognised | None:
    """Parquet files or tar shards, as splits by their usual names, or all of them as train."""
    for suffix, source in _SHARDS.items():
        train = next((name for name in TRAIN_NAMES if shards_of(folder.root, name, suffix)), None)
        if train is not None:
            test = next((name for name in TESTS if shards_of(folder.root, name, suffix)), None)
            names = {} if train == "train" else {"train": train}
            if test is None:
                return _parquet_columns(
                    Recognised(
                        source, {**names, "test_share": TEST_SHARE}, f"{train}*{suffix}", folder.root, notes=(_CUT,)
                    )
                )
            names |= {} if test == "test" else {"test": test}
            return _parquet_columns(Recognised(source, names, f"{train}*{suffix} and {test}*{suffix}", folder.root))
        files = [name for name in folder.files if name.endswith(suffix)]
        if files:
            return _whole(folder.root, files, suffix)
    return None


def _whole(root: Place, files: Sequence[str], suffix: str) -> Recognised:
    """Files without splits. Their names must be such that braces can list them."""
    strange = next((name for name in files if set(name) & set("{},")), None)
    require(strange is None, f"{root}: rename {shown(strange)}, so that its name has neither braces nor commas")
    stems = ",".join(name.removesuffix(suffix) for name in files)
    pattern = files[0] if len(files) == 1 else f"{{{stems}}}{suffix}"
    why = f"{len(files)} files {suffix} without the name of a split"
    options = {"train": pattern, "test_share": TEST_SHARE}
    return _parquet_columns(Recognised(_SHARDS[suffix], options, why, root, notes=(_CUT,)))


def _parquet_columns(found: Recognised) -> Recognised:
    """Options for columns that the source would not choose by itself."""
    if found.source != "parquet":
        return found
    options, note = class_columns(found.place, found.options.get("train", "train"))
    notes = (*found.notes, *([note] if note else []))
    return Recognised(found.source, {**found.options, **options}, found.why, found.place, notes=notes)


def _configurations(folder: _Folder) -> Recognised | None:
    """A set of Hugging Face whose shards are in a folder for each configuration."""
    found = [
        (name, _shards(folder.below(name))) for name in folder.folders if name not in (*TRAIN_NAMES, *TESTS, "data")
    ]
    shards = [(name, one) for name, one in found if one is not None and "without" not in one.why]
    require(
        len(shards) < 2,
        f"{folder.root} has {len(shards)} configurations ({', '.join(name for name, _ in shards[:6])}); give one of "
        f"them, such as --data {folder.root / (shards[0][0] if shards else '')}",
    )
    return shards[0][1] if shards else None


def _splits(folder: _Folder) -> Recognised | None:
    """Class folders below folders with the usual names of splits."""
    train = folder.named(TRAIN_NAMES)
    if train is None:
        return None
    classes = set(folder.below(train).folders)
    if not classes or not any(_has_images(folder.root / train / name) for name in sorted(classes)[:3]):
        return None
    by_name = {name.lower(): name for name in folder.folders}
    tests = [by_name[name] for name in TESTS if name in by_name and _is_labelled(folder, by_name[name], classes)]
    names = {} if train == "train" else {"train": train}
    if not tests:
        why = f"{len(classes):,} class folders below {train}/"
        return Recognised("imagefolder", {**names, "test_share": TEST_SHARE}, why, folder.root, notes=(_CUT,))
    notes = [f"{', '.join(tests[1:])} is not used: minival is cut from train"] if tests[1:] else []
    if tests[0] != "val":
        names["test"] = tests[0]
    why = f"{len(classes):,} class folders below {train}/ and {tests[0]}/"
    return Recognised("imagefolder", names, why, folder.root, notes=notes)


def _is_labelled(folder: _Folder, split: str, classes: set[str]) -> bool:
    """Whether a split has class folders, or a list of classes as Tiny-ImageNet has."""
    below = folder.below(split)
    return bool(classes & set(below.folders)) or (
        f"{split}_annotations.txt" in below.files and "images" in below.folders
    )


def _listed(folder: _Folder) -> Recognised | None:
    """A list with the class of each image: the one for train, and a second one for test if there is one. Raises
    `DataError` if there are several that could be meant."""
    lists = [name for name in folder.files if is_list(name)]

    def rank(name: str) -> tuple[bool, bool]:
        lower = name.lower()
        return "train" not in lower, any(test in lower for test in TESTS)

    for name in sorted(lists, key=lambda name: (*rank(name), name)):
        if (found := _list(folder, name)) is not None:
            unused = [other for other in lists if other not in (name, found.options.get("test"))]
            as_good = [other for other in unused if rank(other) == rank(name) and _list(folder, other) is not None]
            require(
                not as_good,
                f"{folder.root} has several lists with files and classes ({', '.join([name, *as_good][:5])}); give one "
                f"of them, such as --data {folder.root / name}",
            )
            return replace(found, notes=(*found.notes, f"not used: {', '.join(unused)}")) if unused else found
    return None


@dataclass(frozen=True)
class _Reading:
    """A list whose columns are told apart by the files of a folder: `inside`, of the list's own, which is ""."""

    inside: str
    files: Files
    table: Table
    columns: Columns

    @property
    def missing(self) -> list[str]:
        """The entries that are no files of the folder."""
        return [entry for entry in self.table.column(self.columns.image) if self.files.find(entry) is None]


def _readings(folder: _Folder, name: str) -> Iterator[_Reading]:
    """The ways in which a list may be read: by the files of its folder, and of each folder in that."""
    try:
        table = read_table(folder.root / name)
    except DataError:
        return
    for inside in ("", *folder.folders):
        try:
            files = Files(folder.root / inside)
            named = named_columns(table, files)
            columns = find_columns(named, files)
        except DataError:
            continue
        yield _Reading(inside, files, named, columns)


def _incomplete(folder: _Folder, name: str) -> str:
    """Why a list is none, if most of its files are there, but not all; else empty."""
    found = min(_readings(folder, name), key=lambda reading: len(reading.missing), default=None)
    if found is None or not found.missing:
        return ""
    n, rows = len(found.missing), len(found.table.rows)
    return (
        f"{folder.root / name}: {n:,} of {rows:,} files are not in {found.files.folder}, or several have their name, "
        f"first {shown(found.missing[0])}; restore the files, or remove their rows"
    )


def _list(folder: _Folder, name: str) -> Recognised | None:
    """A list of which all files are in the folder, or else in a folder inside; None if they are not, or if its columns
    cannot be told apart."""
    found = next((reading for reading in _readings(folder, name) if not reading.missing), None)
    if found is None:
        return None
    columns = found.columns
    why = f"{name}, whose column {columns.image!r} names files and {columns.label!r} classes"
    options: dict[str, Any] = {"images": folder.root / found.inside} if found.inside else {}
    tests = [other for other in _tests_beside(folder, name) if _fits(folder, other, found.files)]
    if columns.split is not None:
        why += f", and {columns.split!r} splits"
        return Recognised("csv", options, why, folder.root / name)
    if tests:
        return Recognised("csv", {**options, "test": tests[0]}, f"{why}; {tests[0]} is test", folder.root / name)
    return Recognised("csv", {**options, "test_share": TEST_SHARE}, why, folder.root / name, notes=(_CUT,))


def _tests_beside(folder: _Folder, name: str) -> Iterator[str]:
    for word in TESTS:
        for other in folder.files:
            if other != name and other.endswith(LISTS) and word in other.lower():
                yield other


def _fits(folder: _Folder, name: str, files: Files) -> bool:
    """Whether a list gives the classes of files."""
    try:
        table = named_columns(read_table(folder.root / name), files)
        columns = find_columns(table, files)
    except DataError:
        return False
    return all(files.find(entry) is not None for entry in table.column(columns.image))


def _class_folders(folder: _Folder) -> Recognised | None:
    """Class folders without splits."""
    if {name.lower() for name in folder.folders} <= {*TRAIN_NAMES, *TESTS}:
        return None
    classes = [name for name in folder.folders if _has_images(folder.root / name)]
    if len(classes) < max(2, len(folder.folders) / 2):
        return None
    options: dict[str, Any] = {"train": ".", "test_share": TEST_SHARE}
    notes = [_CUT]
    if len(classes) < len(folder.folders):
        options |= {"classes": classes, "only_listed": True}
        notes.append("the folders without images are not on the list")
    return Recognised(
        "imagefolder", options, f"{len(classes):,} class folders without splits", folder.root, notes=notes
    )


def _has_images(folder: Place) -> bool:
    return any(PurePosixPath(found.name).suffix.lower() in SUFFIXES for found in files_below(folder))


def _images_in(folder: _Folder) -> bool:
    return any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in folder.files)


def _torchvision(name: str) -> Recognised | None:
    """The set of torchvision with this name."""
    from torchvision import datasets

    make = getattr(datasets, name, None) if name in datasets.__all__ else None
    if make is None or "root" not in inspect.signature(make.__init__).parameters:
        return None
    arguments = {"EMNIST": {"split": "balanced"}, "Places365": {"small": True}}.get(name)
    options: dict[str, Any] = {"name": name, "root": "downloads"}
    if "download" in inspect.signature(make.__init__).parameters or name == "EMNIST":
        options["download"] = True
    notes = [] if "download" in options else ["torchvision does not download it: put its files below root"]
    if arguments is not None:
        options["arguments"] = arguments
        notes = [f"arguments of torchvision: {arguments}, of several that are possible"]
    return Recognised("torchvision", options, f"the set {name} of torchvision", Path("downloads"), "", notes)
