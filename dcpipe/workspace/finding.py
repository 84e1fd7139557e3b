"""Find the workspace around a folder, so that commands work in its subfolders too."""

from __future__ import annotations

from pathlib import Path

PARAMS = "params.yaml"
_STUDIES = "studies"  # a folder of a workspace, with a params.yaml of its own


def root_of(folder: Path) -> Path | None:
    """The workspace that a folder is or is in: the nearest with a params.yaml; None if there is none."""
    for place in (folder, *folder.parents):
        of_studies = place.name == _STUDIES and (place.parent / PARAMS).is_file()
        if (place / PARAMS).is_file() and not of_studies:
            return place
    return None
