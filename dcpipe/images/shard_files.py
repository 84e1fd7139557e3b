"""The files of a split in a set of shards, found by the names that people give them, or named by the user.

For the split `train` and files that end in .tar, these are, in this order: `train-*.tar` in the folder or in its
subfolder `data`; all of `train/*.tar` in either; or the one file `train.tar`. Where a name ends in `-of-00010`, ten of
them must be there. A split that ends in .tar is no name of a split but names its files: `imagenet-{000..146}.tar`, with
the braces of a shell. Only this works on a web server, which has no lists of files.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from dcpipe.images.places import Place, Remote, names_in, place
from dcpipe.store.documents import shown
from dcpipe.types import require

MOST = 100_000  # files that braces may stand for
TEST_NAMES = ("test", "validation", "valid", "val")
_BRACES = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")


def shards_of(root: Place, split: str, suffix: str) -> list[Place]:
    """The files of a split in order; empty if there are none. None that their names promise may be missing."""
    if split.endswith(suffix):
        return [root / name for name in expanded(split)]
    _check_listing(root, split, suffix)
    above, _, last = split.rpartition("/")
    for folder in (root / above, root / "data" / above):
        files, folders = names_in(folder)
        found = [name for name in files if name.startswith(f"{last}-") and name.endswith(suffix)]
        _check_promise(folder, split, found)
        if not found and last in folders:
            found = [f"{last}/{name}" for name in names_in(folder / last)[0] if name.endswith(suffix)]
        if not found and last + suffix in files:
            found = [last + suffix]
        if found:
            return [folder / name for name in found]
    return []


def shards_of_test(root: Place, test: str, suffix: str) -> list[Place]:
    """The files of the split `test`; where that is its name, of the first of its usual names that has files."""
    names = TEST_NAMES if test == "test" else (test,)
    return next((files for name in names if (files := shards_of(root, name, suffix))), [])


def folder_of(path: str, source: str) -> Place:
    """The folder of a set of shards. Raises `DataError` if it is not there; a URL is only looked at when it is read."""
    root = place(path)
    require(isinstance(root, Remote) or root.is_dir(), f"{source} folder {path} not found; correct images.options.path")
    return root


def splits_of(
    root: Place,
    suffix: str,
    *,
    train: str = "train",
    test: str = "test",
    test_share: float | None = None,
    **others: Any,
) -> list[tuple[str, list[Place]]]:
    """The names of train and test with their files; with `test_share`, test is a part of train and has none. The
    options are those of a source, of which others do not matter here."""
    splits = [(train, shards_of(root, train, suffix))]
    return splits if test_share is not None else [*splits, (test, shards_of_test(root, test, suffix))]


def files_of(root: Place, suffix: str, **options: Any) -> list[Place]:
    """All files that a source with these options reads."""
    return [file for _, files in splits_of(root, suffix, **options) for file in files]


def some_names(root: Place, suffixes: str | tuple[str, ...], none: str) -> str:
    """The first few files with these suffixes in a folder and its subfolder `data`, for a message; `none` if there are
    none."""
    names = sorted(name for folder in (root, root / "data") for name in names_in(folder)[0] if name.endswith(suffixes))
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else none


def expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for: `{08..11}` is 08, 09, 10, 11 and `{a,b}` is a, b; in order, the last braces
    first. A name without braces stands for itself."""
    parts = _BRACES.split(pattern)
    choices = [
        parts[place : place + 1] if place % 4 == 0 else _choices(pattern, *parts[place : place + 3])
        for place in range(len(parts))
        if place % 4 in (0, 1)
    ]
    number = 1
    for choice in choices:
        number *= len(choice)
        require(number <= MOST, f"{shown(pattern)} names more than {MOST:,} files; give fewer")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(pattern: str, first: str | None, last: str | None, listed: str | None) -> list[str]:
    """What one pair of braces stands for."""
    if listed is not None:
        return listed.split(",")
    low, high = int(first or ""), int(last or "")
    require(low <= high < low + MOST, f"{shown(pattern)} counts from {first} to {last}; count up, to {MOST:,} at most")
    return [str(number).zfill(len(first or "")) for number in range(low, high + 1)]


def _check_listing(root: Place, split: str, suffix: str) -> None:
    require(
        not (isinstance(root, Remote) and root.is_web),
        f"{root} is on a web server, which has no list of files, so the split {split!r} cannot be looked for; name the "
        f"files of both splits, for example images.options.train: 'train-{{00000..00009}}{suffix}'",
    )


def _check_promise(folder: Place, split: str, names: list[str]) -> None:
    for name in names:
        promised = re.search(r"-of-(\d+)", name)
        require(
            promised is None or int(promised[1]) == len(names),
            f"{folder} has {len(names)} shards of {split!r} but {name} promises "
            f"{int(promised[1]) if promised else 0}; download the missing ones or remove stray files",
        )
