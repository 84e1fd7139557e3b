"""Write a release for other code, in one of several formats: each is one function and one line in `FORMS`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dcpipe.dataset.targets import rows_of
from dcpipe.release.ddranking import write_ddranking
from dcpipe.release.decoded import Decoded, holds_all, parameters
from dcpipe.release.huggingface import write_parquet
from dcpipe.release.reading import Release
from dcpipe.store import describe_views
from dcpipe.store.encoding import encode_all
from dcpipe.store.files import new_folder
from dcpipe.store.tensors import write
from dcpipe.types import ImageSet, LabelPack, Sliceable, require
from dcpipe.types.paths import local_path
from dcpipe.views import multiformation


def export(release: Release, folder: Path, *, form: str = "folder", labels: bool = True) -> None:
    """Write a release into the new folder `folder`, in one of the formats `FORMS`; `labels` includes soft labels.

    Images that are stored as grids are decoded, because other code could not decode them.

    Raises `DataError` if the folder exists or the format is unknown. Also for soft labels, if images were mixed before
    labelling (a mixed view has no single image) or, for formats with every view, if the codec dropped views.
    """
    require(form in FORMS, f"unknown export format {form!r}; choose one of {', '.join(FORMS)}")
    folder = local_path(folder, "the folder of an export")
    require(not os.path.lexists(folder), f"{folder} exists; give a folder that does not")
    pack = release.pack if labels else None
    require(
        pack is None or pack.policy.mix != "cutmix_images",
        f"release {release.name} has labels of mixed images, which have no single file; export only the images",
    )
    require(
        pack is None or form == "ddranking" or holds_all(pack),
        f"release {release.name} has labels of some views only, which do not fill a dense array; export images only",
    )
    whole = replace(release, images=multiformation.decoded(release.images))
    with new_folder(folder) as partial:
        FORMS[form](whole, partial, pack)


def write_folders(release: Release, folder: Path, pack: LabelPack | None) -> None:
    """Write PNG files by class, for code that reads neither Parquet nor releases.

    * `00000/00000.png`: folders are class indices and files are ranks in the class, so that sorted names are in the
      order of classes and picks, and the first k files of each class are the smaller set (k * f * f files if stored
      images are grids of f x f)
    * `classes.json`: folder -> class name, because a wrong class order is the most reported bug
    * `labels.safetensors`, if there is a pack: `logits` fp16 [n, K, c]; `class` and `rank` i64 [n] identify the file of
      each row; `box` f32 [n, K, 4] (left, top, width, height as fractions) and `flip` u8 [n, K] are the views. Its
      header contains the view policy.
    """
    images = release.images
    for label in range(len(images.classes)):
        (folder / f"{label:05d}").mkdir()
    for data, label, place in zip(encode_all(images), images.labels, images.ranks, strict=True):
        (folder / f"{label:05d}" / f"{place:05d}.png").write_bytes(data)
    names = {f"{label:05d}": name for label, name in enumerate(images.classes)}
    (folder / "classes.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    if pack is not None:
        _write_labels(folder / "labels.safetensors", images, pack)


def _write_labels(path: Path, images: ImageSet, pack: LabelPack) -> None:
    rows = rows_of(pack, images)
    box, flip = parameters(pack, rows)
    arrays: dict[str, Sliceable] = {
        "logits": Decoded(pack, rows),
        "box": box,
        "flip": flip,
        "class": images.labels,
        "rank": images.ranks,
    }
    write(path, arrays, {"views": json.dumps(describe_views(pack.policy.labelling), sort_keys=True)})


FORMS: dict[str, Callable[[Release, Path, LabelPack | None], None]] = {
    "folder": write_folders,
    "parquet": write_parquet,
    "ddranking": write_ddranking,
}
