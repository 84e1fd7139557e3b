"""Write a release for other code, in one of several formats: each is one function and one line in `FORMS`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dcpipe.dataset.decoded import check_dense
from dcpipe.release.ddranking import write_ddranking
from dcpipe.release.folders import write_folders
from dcpipe.release.huggingface import write_parquet
from dcpipe.release.reading import Release
from dcpipe.store.files import new_folder
from dcpipe.types import LabelPack, require
from dcpipe.types.paths import local_path
from dcpipe.views import multiformation


def export(release: Release, folder: Path, *, form: str = "folder", labels: bool = True) -> None:
    """Write a release into the new folder `folder`, in one of the formats `FORMS`; `labels` includes soft labels.

    Images that are stored as grids are decoded, because other code could not decode them. The ZCA transform of a
    release that has one is copied beside them.

    Raises `DataError` if the folder exists or the format is unknown. Also for soft labels, if images were mixed before
    labelling (a mixed view has no single image) or, for formats with every view, if the codec dropped views.
    """
    require(form in FORMS, f"unknown export format {form!r}; choose one of {', '.join(FORMS)}")
    folder = local_path(folder, "the folder of an export")
    require(not os.path.lexists(folder), f"{folder} exists; give a folder that does not")
    pack = release.pack if labels else None
    if pack is not None:
        check_dense(pack, f"release {release.name}", every_view=form != "ddranking")
    whole = replace(release, images=multiformation.decoded(release.images))
    with new_folder(folder) as partial:
        FORMS[form](whole, partial, pack)
        if (transform := release.transform_file) is not None:
            shutil.copyfile(transform, partial / transform.name)


FORMS: dict[str, Callable[[Release, Path, LabelPack | None], None]] = {
    "folder": write_folders,
    "parquet": write_parquet,
    "ddranking": write_ddranking,
}
