"""What the pipeline reads from outside the workspace: listings of images, and hashes of weights, in data/sources.

`images.json` has the number of files of the image source, their bytes, and a SHA-256 over their names, sizes and times
of modification. There is one `teacher-KEY.json` for each key of teacher.networks, with the SHA-256 of its weights file
if it has one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcpipe.images.listing import list_source
from dcpipe.store.files import replacing
from dcpipe.types import DataError

FOLDER = Path("data/sources")
TEACHERS, FORMER = Path("data/teacher"), Path(".dcpipe/former/teacher")
Content = dict[str, dict[str, Any] | None]


def list_sources(
    source: Callable[..., Any], options: Mapping[str, Any], hashes: Mapping[str, str | None], say: Callable[[str], None]
) -> Content:
    """The content of each file of data/sources by its name; None if something is not on this machine.

    Args:
        source, options: the image source and its options.
        hashes: for each teacher, the SHA-256 of its weights file, "" if it has none, None if it is not here.
        say: called with a sentence about images that are not here although they were listed before.
    """
    content: Content = {}
    try:
        listing = list_source(source, options)
        content["images"] = {} if listing is None else listing.to_json()
    except DataError as error:  # the stage `images` raises it again if it has to run
        content["images"] = None
        if (FOLDER / "images.json").exists():
            say(f"{error}; continuing with the earlier listing in {FOLDER}")
    for key, sha256 in hashes.items():
        content[f"teacher-{key}"] = None if sha256 is None else {"sha256": sha256} if sha256 else {}
    return content


def write(content: Content) -> None:
    """Make data/sources contain exactly these files. What is not on this machine keeps its earlier file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.iterdir():
        if path.stem not in content:
            path.unlink()
    for name, value in content.items():
        path, text = FOLDER / f"{name}.json", json.dumps(value or {}, indent=1) + "\n"
        if path.exists() and (value is None or path.read_text(encoding="utf-8") == text):
            continue
        with replacing(path) as partial:  # it may be a link into DVC's cache
            partial.write_text(text, encoding="utf-8")


def move_former_teachers(keys: set[str]) -> list[str]:
    """Move teachers that no key names out of data/teacher. Returns a sentence about each."""
    moved = []
    for folder in sorted(TEACHERS.iterdir()) if TEACHERS.is_dir() else ():
        if folder.is_dir() and folder.name not in keys:
            FORMER.mkdir(parents=True, exist_ok=True)
            place = FORMER / folder.name
            n = 1
            while place.exists():
                n += 1
                place = FORMER / f"{folder.name}-{n}"
            folder.rename(place)
            moved.append(f"moved {folder} to {place}, because teacher.networks does not name it any more")
    return moved
