"""Class names in the order of labels, from what a user has at hand: a list in a file, or an artifact of dcpipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from dcpipe.images.base import in_order
from dcpipe.images.folder import SUFFIXES
from dcpipe.images.listed import TRAIN_NAMES
from dcpipe.images.listing import files_below, is_hidden
from dcpipe.store.artifact import SCHEMA
from dcpipe.store.documents import Channels, Classes, Open, checked, parse, read_bytes
from dcpipe.store.manifest import MANIFEST, read_manifest
from dcpipe.types import Colour, require

_LIMIT = 64 * 2**20  # bytes of a list
_REMEDY = (
    "give a JSON list, {name: index}, a text file with a name per line, a folder of class folders, or one such as "
    "data/images"
)


@dataclass(frozen=True)
class ClassNames:
    """Names in the order of labels, the mean and std of the pixels if their source says them, and what was assumed of
    the order, if anything."""

    names: tuple[str, ...]
    constants: tuple[Colour, Colour] | None = None
    note: str = ""


class _Named(Open):
    """What artifacts say of classes and pixels."""

    classes: Classes
    mean: Channels | None = None
    std: Channels | None = None


class _List(Open):
    classes: Classes


def read_class_names(path: Path) -> ClassNames:
    """Class names from a folder of an artifact (images, a teacher, a release), a folder of class folders, a JSON file
    (a list in label order, or {name: index}), or a text file with one name per line.

    Raises `DataError` for anything else, and for names that repeat.
    """
    if path.is_dir() and not (path / MANIFEST).is_file():
        return _of_folders(path)
    if path.is_dir():
        manifest = read_manifest(path, SCHEMA)
        meta = checked(_Named, manifest.meta, path / MANIFEST, _REMEDY, "in meta")
        constants = None if meta.mean is None or meta.std is None else (_colour(meta.mean), _colour(meta.std))
        return ClassNames(_distinct(meta.classes, path), constants)
    require(path.is_file(), f"class list {path} is not there; {_REMEDY}")
    data = read_bytes(path, _LIMIT, _REMEDY)
    return ClassNames(_distinct(_listed(data, path), path))


def _of_folders(path: Path) -> ClassNames:
    """The names of class folders, below a folder such as train if there is one, in the order in which images of one's
    own are read (`dcpipe.images.base.in_order`). A folder without images is no class."""
    splits = (folder for folder in _visible(path) if folder.name.lower() in TRAIN_NAMES and _visible(folder))
    split = next(splits, path)  # a class may be called train too
    folders = _visible(split)
    empty = next((folder for folder in folders if not _has_images(folder)), None)
    require(
        bool(folders) and empty is None,
        f"{path} is no folder of class folders{'' if empty is None else f' ({empty} has no images)'}, nor one that "
        f"dcpipe wrote; {_REMEDY}",
    )
    names = in_order(folder.name for folder in folders)
    few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return ClassNames(names, note=f"class names are those of the folders in {split.name}, sorted: {few}")


def _visible(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not is_hidden(folder.name))


def _has_images(folder: Path) -> bool:
    return any(PurePath(file.name).suffix.lower() in SUFFIXES for file in files_below(folder))


def _listed(data: bytes, path: Path) -> list[str]:
    if path.suffix.lower() != ".json":
        try:
            lines = data.decode("utf-8").splitlines()
        except UnicodeDecodeError:
            lines = []
        return checked(_List, {"classes": [line.strip() for line in lines if line.strip()]}, path, _REMEDY).classes
    content: Any = parse(data, path, _REMEDY)
    if isinstance(content, dict):
        numbers = list(content.values())
        require(
            all(type(number) is int for number in numbers) and sorted(numbers) == list(range(len(numbers))),
            f"{path}: its indices must be 0..{len(numbers) - 1}, each once; correct the file",
        )
        content = sorted(content, key=content.__getitem__)
    return checked(_List, {"classes": content}, path, _REMEDY).classes


def _distinct(names: list[str], path: Path) -> tuple[str, ...]:
    require(len(set(names)) == len(names), f"{path}: class names repeat; make them distinct")
    return tuple(names)


def _colour(values: list[float]) -> Colour:
    red, green, blue = values
    return red, green, blue
