"""Images that cannot be decoded: all of them are reported at once, and left out where `images.on_corrupt` is `skip`.

The list is a JSON file: for each image its split, its id (its row in the source), its file and the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe.images.inspection import PartReport
from dcpipe.store.files import replacing
from dcpipe.types import DataError, IntArray

LIST = "corrupt.json"
_TOLD = 3  # of which a message gives the reasons

Entry = dict[str, Any]


def listed(reports: Mapping[str, Sequence[PartReport]]) -> list[Entry]:
    """The corrupt images in the reports of each split, in the order of the splits and of their rows."""
    return [
        {"split": split, **image._asdict()}
        for split, parts in reports.items()
        for part in parts
        for image in part.corrupt
    ]


def write(path: Path, corrupt: Sequence[Entry]) -> None:
    """Write the list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(corrupt, indent=1) + "\n", encoding="utf-8")


def stop(corrupt: Sequence[Entry], n_images: int, path: Path) -> None:
    """Raises `DataError` about some corrupt images of `n_images`; `path` is where all of them are listed."""
    first = ", ".join(f"{image['file']} ({image['reason']})" for image in corrupt[:_TOLD])
    more = f" and {len(corrupt) - _TOLD:,} more" if len(corrupt) > _TOLD else ""
    raise DataError(
        f"{len(corrupt):,} of {n_images:,} images {'is' if len(corrupt) == 1 else 'are'} corrupt: {first}{more}; "
        f"{path} lists all with the reasons; replace or remove them, or set images.on_corrupt: skip to leave them out"
    )


def without(rows: Mapping[str, IntArray], corrupt: Sequence[Entry]) -> dict[str, IntArray]:
    """The rows of each split that can be decoded, i64 [m], ascending."""
    ids = {split: [image["id"] for image in corrupt if image["split"] == split] for split in rows}
    return {split: kept[~np.isin(kept, ids[split])] for split, kept in rows.items()}
