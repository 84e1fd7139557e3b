"""sources: list what the pipeline reads from outside the workspace, so that `dvc repro` notices when it changes.

It runs before every `dvc repro`, in about a second, and opens no image. Output: data/sources, with `images.json` (the
number of files, their bytes, and a SHA-256 over their names, sizes and times of modification) and one
`teacher-KEY.json` for each key of teacher.networks (the SHA-256 of its weights file, if it has one).

A folder of an earlier teacher that params.yaml does not name any more is moved from data/teacher to
.dcpipe/former/teacher, because stages depend on data/teacher as a whole, and other workspaces would not have this
folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dcpipe import images
from dcpipe.config.params import Params, load_blocks
from dcpipe.types import DataError

FOLDER = Path("data/sources")
TEACHERS, FORMER = Path("data/teacher"), Path(".dcpipe/former/teacher")


def list_sources(params: Params) -> dict[str, dict[str, Any] | None]:
    """The content of each file of data/sources by its name; None if a source is not on this machine."""
    content: dict[str, dict[str, Any] | None] = {}
    try:
        listing = images.list_source(images.SOURCES[params.images.source], params.images.options)
        content["images"] = {} if listing is None else listing.to_json()
    except DataError as error:  # the stage `images` raises it again if it has to run
        content["images"] = None
        if (FOLDER / "images.json").exists():
            print(f"sources: {error}; continuing with the earlier listing in data/sources", file=sys.stderr)
    for key, network in params.teacher.networks.items():
        sha256 = network.weights_sha256()
        missing = network.weights is not None and sha256 is None  # or the name of weights that torchvision downloads
        content[f"teacher-{key}"] = None if missing else {} if sha256 is None else {"sha256": sha256}
    return content


def write(content: dict[str, dict[str, Any] | None]) -> None:
    """Make data/sources contain exactly these files. A source that cannot be read keeps its earlier file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.iterdir():
        if path.stem not in content:
            path.unlink()
    for name, value in content.items():
        path, text = FOLDER / f"{name}.json", json.dumps(value or {}, indent=1) + "\n"
        if (value is None and path.exists()) or (path.exists() and path.read_text(encoding="utf-8") == text):
            continue
        path.unlink(missing_ok=True)  # it may be a link into DVC's cache
        path.write_text(text, encoding="utf-8")  # if a kill interrupts this, the next run writes it again


def move_former_teachers(keys: set[str]) -> None:
    """Move teachers that no key names out of data/teacher."""
    for folder in sorted(TEACHERS.iterdir()) if TEACHERS.is_dir() else ():
        if folder.is_dir() and folder.name not in keys:
            FORMER.mkdir(parents=True, exist_ok=True)
            place = FORMER / folder.name
            n = 1
            while place.exists():
                n += 1
                place = FORMER / f"{folder.name}-{n}"
            folder.rename(place)
            print(f"sources: moved {folder} to {place}, because teacher.networks does not name it any more")


def main() -> None:
    """The command of the stage `sources`."""
    try:
        params = load_blocks(Path("params.yaml"))
        write(list_sources(params))
        move_former_teachers(set(params.teacher.networks))
    except (DataError, OSError) as error:
        print(f"sources: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
