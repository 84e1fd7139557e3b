"""Releases of what other projects made: what all imports share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from dcpipe import store
from dcpipe.release.writing import Origin, write_release
from dcpipe.types import ImageSet, LabelPack, require
from dcpipe.types.paths import local_path


def new_folder(out: Path) -> Path:
    """The folder of a release that will be written. Raises `DataError` if it exists."""
    out = local_path(out, "the folder of the release")
    require(not os.path.lexists(out), f"{out} exists; give a folder that does not, or remove it")
    return out


def versions() -> dict[str, str]:
    """Versions of the packages that decide the bytes of a release."""
    return {package: version(package) for package in ("dcpipe", "numpy", "torch", "zarr")}


def publish(
    staging: store.StagingDir, images: ImageSet, pack: LabelPack | None, origin: Origin, made_by: Mapping[str, str]
) -> store.Artifact:
    """Write a release without scores into a staging folder, and publish it."""
    meta = write_release(staging.root, staging.out.name, images, pack, [], origin, made_by)
    return staging.publish("release", meta)
