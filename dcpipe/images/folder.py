"""`imagefolder`: one folder per class, as torchvision's ImageFolder and the scripts of most papers expect it, on this
machine or in an object store.

The order of classes is the most reported trap of the field: sorted folder names are WordNet ids in one copy of a data
set and English names in another, and a teacher trained in the other order scores at chance. So the order can be given,
as a list or as the `class_to_idx` file that came with the teacher.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NoReturn

import numpy as np

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
from dcpipe.images.listing import files_below, is_hidden
from dcpipe.images.places import Place, Remote, names_in, overlapping, place, read_file
from dcpipe.store.documents import loads
from dcpipe.types import DataError, Elsewhere, IntArray, require

Image = tuple[str, int]  # a file below the root, and its size in bytes
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, eq=False)
class FolderSplit:
    """One split: the image files below `root`, sorted by class and then by name."""

    root: Place
    classes: tuple[str, ...]
    labels: IntArray
    files: tuple[str, ...]
    sizes: IntArray  # in bytes

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        check_ascending(rows, len(self.files), str(self.root))
        files = [self.files[row] for row in rows.tolist()]
        images = list(zip(files, self.sizes[rows].tolist(), strict=True))
        contents = overlapping(self._read_one, images, isinstance(self.root, Remote))
        return list(zip(contents, map(_printable, files), strict=True))

    def _read_one(self, image: Image) -> bytes:
        return read_file(self.root / image[0], image[1])

    @property
    def elsewhere(self) -> Elsewhere:
        return Elsewhere(str(self.root))

    def where(self, rows: IntArray) -> list[Where]:
        return [Where(self.files[row]) for row in rows.tolist()]


def _count(*, path: str, train: str = "train", classes: list[str] | str | None = None, **others: str) -> int:
    return len(_classes(_root(path), train, classes))


def _paths(
    *, path: str, train: str = "train", test: str = "val", classes: list[str] | str | None = None, **others: Any
) -> list[Place]:
    root = _root(path)
    splits = [train] if others.get("test_share") is not None else [train, test]
    return [*(_folder(root, split) for split in splits), *([place(classes)] if isinstance(classes, str) else [])]


def _folder(root: Place, split: str) -> Place:
    """The folder of a split; "." is the root itself."""
    return root if split == "." else root / split


def _root(path: str) -> Place:
    root = place(path)
    require(
        not (isinstance(root, Remote) and root.is_web),
        f"images.options.path {root} is on a web server, which has no list of files; put the images into tar shards "
        "(source webdataset) or Parquet files (source parquet), or copy them to this machine",
    )
    return root


@reads_files(_paths)
@counts_classes(_count)
@validated("image source 'imagefolder'")
def imagefolder(
    *,
    path: str,
    train: str = "train",
    test: str = "val",
    classes: list[str] | str | None = None,
    only_listed: bool = False,
    test_share: PositiveShare | None = None,
    seed: Seed = 0,
) -> dict[str, Source]:
    """Images in the folders `path`/`train`/CLASS/… and `path`/`test`/CLASS/….

    Files may be at any depth in the folder of their class and are sorted by path. `classes` is a list of names in label
    order, or a JSON file with such a list or with {name: index}; by default it is the folder names of train, sorted as
    numbers where all are integers, else as text.
    With `only_listed`, class folders that are not on the list are left out, for example to take ten classes of
    ImageNet. A class may have no folder in the split `test`.

    With `test_share`, this share of every class of `train` becomes test, drawn by `seed`, and `test` is not read; with
    `train: "."`, the class folders are those of `path`. So `{path: X, train: ".", test_share: 0.2}` reads X/CLASS/….

    A split may also be a folder `images` and a text file `SPLIT_annotations.txt` that gives a file's name and its class
    in the first two columns, separated by tabs, as Tiny-ImageNet is distributed.

    Hidden files and folders (`._x.png`, `.ipynb_checkpoints`), files outside class folders and files without an image
    suffix are ignored. Raises `DataError` for a missing folder, a class without train images, and a class folder that
    is not on the list.
    """
    root = _root(path)
    require(not only_listed or classes is not None, "only_listed needs a list of classes; give images.options.classes")
    order = _classes(root, train, classes)
    wanted = [train] if test_share is not None else [train, test]
    splits = [_split(root, split, order, only_listed, split == train) for split in wanted]
    return train_and_test(splits, test_share, seed, str(root))


def _classes(root: Place, train: str, classes: list[str] | str | None) -> tuple[str, ...]:
    """Names in label order, from the list or from the folders of train."""
    return _order(classes) if classes is not None else in_order(_class_folders(root, train))


def _order(classes: Sequence[str] | str) -> tuple[str, ...]:
    if not isinstance(classes, str):
        return class_list(classes)
    try:
        content: Any = loads(read_file(place(classes), what="class list"))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"class list {classes} cannot be read as JSON ({error}); give a list or {{name: index}}"
        ) from error
    if isinstance(content, dict):
        require(
            all(type(index) is int for index in content.values())
            and sorted(content.values()) == list(range(len(content))),
            f"class list {classes}: indices must be 0..{len(content) - 1}, each once; correct the file",
        )
        content = sorted(content, key=content.__getitem__)
    require(isinstance(content, list), f"class list {classes} holds neither a list nor {{name: index}}; correct it")
    return class_list(content)


def _class_folders(root: Place, split: str) -> list[str]:
    folder = _folder(root, split)
    files, folders = names_in(folder)
    if not files and not folders and not (isinstance(folder, Path) and folder.is_dir()):
        present = names_in(root)[1]
        require(
            False,
            f"image folder {folder} not found; {root} contains {', '.join(present[:10]) or 'no folders'}, so correct "
            "the path or the name of the split; where test images are missing, set images.options.test_share: 0.2, and "
            'where these are the folders of the classes, train: "." too',
        )
    if isinstance(folder, Path):
        for entry in sorted(folder.iterdir()):
            if not entry.name.startswith(".") and entry.is_symlink() and not entry.exists():
                _refuse_link(entry, "class folder")
    names = [name for name in folders if not is_hidden(name)]
    require(bool(names), f"image folder {folder} has no class folders; put each class's images in one")
    for name in names:
        require(_printable(name) == name, f"class folder {_printable(name)!r} in {folder} is not UTF-8; rename it")
    return names


def _split(root: Place, split: str, classes: tuple[str, ...], only_listed: bool, every_class: bool) -> FolderSplit:
    """The files of a split by class. With `every_class`, a class without a folder is refused."""
    files, folders = names_in(_folder(root, split))
    annotations = f"{split}_annotations.txt"
    if annotations in files and "images" in folders:
        found = _annotated(root, split, root / split / annotations)
    else:
        names, prefix = _class_folders(root, split), "" if split == "." else f"{split}/"
        wanted = [name for name in names if name in classes]
        listed = overlapping(lambda name: _images_below(root, f"{prefix}{name}"), wanted, isinstance(root, Remote))
        found = {name: [] for name in names} | dict(zip(wanted, listed, strict=True))
    unknown = sorted(set(found).difference(classes))
    require(
        only_listed or not unknown,
        f"class folder {_folder(root, split) / (unknown or [''])[0]} is not on the class list; add or move it, or set "
        "only_listed: true to leave out all that are not listed",
    )
    for name in classes:
        folder = _folder(root, split) / name
        present = name in found or not every_class
        require(present, f"class folder {folder} not found; create it or take {name!r} off the class list")
        images = found.setdefault(name, [])
        require(
            bool(images) or not every_class,
            f"class folder {folder} has no images ({', '.join(sorted(SUFFIXES))}); add some",
        )
    all_images = [image for name in classes for image in found[name]]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(found[name]) for name in classes])
    sizes = np.array([size for _, size in all_images], dtype=np.int64)
    return FolderSplit(root, classes, labels, tuple(file for file, _ in all_images), sizes)


def _images_below(root: Place, folder: str) -> list[Image]:
    """The image files below a folder of `root`, sorted. Raises `DataError` for a link to nothing, which is an image
    that is missing, and for a folder that cannot be read."""
    images = []
    for found in files_below(root / folder):
        if PurePath(found.name).suffix.lower() in SUFFIXES:
            if found.lost:
                _refuse_link(Path(str(root / folder)) / found.name, "image")
            images.append((f"{folder}/{found.name}", found.size))
    return sorted(images)


def _refuse_link(path: Path, what: str) -> NoReturn:
    raise DataError(
        f"{what} {_printable(str(path))} is a link to {_printable(str(path.readlink()))}, which does not exist; "
        "restore that, or remove the link"
    )


def _annotated(root: Place, split: str, annotations: Place) -> dict[str, list[Image]]:
    """The files of each class as the annotations give them; every file of `images` needs a line."""
    content = read_file(annotations, what="the list")
    try:
        text = content.decode("utf-8")
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{annotations} cannot be read ({error}); restore it") from error
    short = [line for line in lines if len(line) < 2]
    require(
        not short, f"{annotations}: line {(short or [['']])[0][0]!r} has no tab; give a file and its class per line"
    )
    class_of: dict[str, str] = {}
    for file, name in ((line[0], line[1].strip()) for line in lines):
        first = class_of.setdefault(file, name)
        require(first == name, f"{annotations} gives {file} to classes {first!r} and {name!r}; keep one line")
    found: dict[str, list[Image]] = {}
    for file, size in _images_below(root, f"{split}/images"):
        name = PurePath(file).name
        require(name in class_of, f"{annotations} has no line for {file}; add one or remove the file")
        found.setdefault(class_of[name], []).append((file, size))
    return found


def _printable(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 become escapes such as \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
