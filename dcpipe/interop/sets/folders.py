"""`folders`: one folder of image files per class, as SRe2L, CDA, EDC, RDED and D4M write them.

| project | files |
|-|-|
| SRe2L, CDA, EDC | `new003/class003_id012.jpg` (EDC: `.png` for small images, perhaps `_iter1000` before the suffix) |
| RDED | `00003/class00003_id00012.jpg`, each a collage of patches |
| D4M | `3/3-image012.png`, with class numbers that are not padded |

Numbered folders are sorted as integers, because as text 10 comes before 2 and eleven classes or more would be
permuted. A folder's number must be that in the names of its files. Other folders are class names. Files are sorted by
the numbers in their names. RDED's collages are training images as they are, not grids. Pixels are those of the files;
JPEGs grow when they are stored as PNG.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import numpy as np

from dcpipe.images.folder import SUFFIXES, FolderSplit, imagefolder
from dcpipe.interop.pictures import squares
from dcpipe.interop.sets.base import Format, Found, Options, Source
from dcpipe.types import IntArray, require

_NUMBERED = re.compile(r"(?:new)?(\d{1,9})")
_FILE = re.compile(r"(?:class)?(\d{1,9})(?:_id|-image)(\d{1,9})(?:_iter(\d{1,9}))?")


def owns(source: Source) -> bool:
    """A folder of folders, one of which has an image file."""
    return any(
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        for folder in _class_folders(source.path)
        for path in folder.iterdir()
    )


def read(source: Source, options: Options) -> Found:
    """All images, class by class."""
    folder = source.path.absolute()
    names = [path.name for path in _class_folders(folder)]
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    are_numbers = all(numbered)
    if are_numbers:
        names = _by_number(folder, {int(match[1]): match[0] for match in numbered if match}, len(names))
        notes = [f"class numbers are those of the folders, {names[0]} to {names[-1]}, sorted as integers"]
    else:
        notes = ["classes are the folders"]
    found = imagefolder(path=str(folder.parent), train=folder.name, test=folder.name, classes=names)["train"]
    assert isinstance(found, FolderSplit)
    order = _order(found, are_numbers)
    files = found.read(np.arange(len(order)))
    pixels = squares(files, "releases have square images; crop them")
    paths = tuple(folder.parent / found.files[row] for row in order.tolist())
    classes = None if are_numbers else tuple(names)
    return Found(pixels[order], found.labels[order], paths, classes=classes, finished=True, notes=tuple(notes))


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _by_number(folder: Path, by_number: dict[int, str], n_folders: int) -> list[str]:
    """Names of folders in the order of the integers in them, 0, 1, 2, ... without gaps."""
    require(len(by_number) == n_folders, f"{folder} has folders with the same number, as 3 and 003; keep one of each")
    missing = next((number for number in range(n_folders) if number not in by_number), None)
    require(
        missing is None,
        f"{folder} has {n_folders} class folders, but none is number {missing}; number the classes from 0, or name the "
        "folders after the classes",
    )
    return [by_number[number] for number in range(n_folders)]


def _order(found: FolderSplit, are_numbers: bool) -> IntArray:
    """The rows of the files, sorted by class and by the numbers in their names: i64 [n].

    Raises `DataError` for a file whose name says another class than its folder, and for an image that is there twice.
    """
    keys, seen = [], dict[tuple[int, int], str]()
    for file, label in zip(found.files, found.labels.tolist(), strict=True):
        stem = PurePath(file).stem
        match = _FILE.fullmatch(stem) if are_numbers else None
        if match:
            require(
                int(match[1]) == label,
                f"image {file} is of class {match[1]} by its name, but in folder {PurePath(file).parent.name}; move it",
            )
            if match[3] or (label, int(match[2])) in seen:
                other = seen.setdefault((label, int(match[2])), file)
                require(other == file, f"image {file} is there twice, as {other} too; keep the one that counts")
            seen[label, int(match[2])] = file
        keys.append((label, [(part.isdigit(), part.zfill(20)) for part in re.split(r"(\d+)", stem)], file))
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


FORMAT = Format("class folders of image files: SRe2L, CDA, EDC, RDED, D4M", lambda source: [], owns, read)
