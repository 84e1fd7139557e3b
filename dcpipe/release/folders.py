"""The format `folder`: PNG files by class, for code that reads neither Parquet nor releases.

* `00003_white_shark/00000.png`: sorted names are in the order of classes and picks, so that `ImageFolder` of
  torchvision and `load_dataset("imagefolder")` number the classes as the release does, and the first k files of each
  class are the smaller set (k * f * f files if stored images are grids of f x f). Where the names of the classes are
  fit for folders and sort in label order, as those of ImageNet's folders and digits do, they stand alone
* `classes.json`: folder -> class name in label order, because a wrong class order is the most reported bug
* `labels.safetensors`, if there is a pack: `logits` fp16 [n, K, c]; `class` and `rank` i64 [n] are the place of the
  folder and the number of the file of each row; `box` f32 [n, K, 4] (left, top, width, height as fractions) and `flip`
  u8 [n, K] are the views. Its header contains the view policy
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dcpipe.dataset.decoded import Decoded, parameters
from dcpipe.dataset.targets import rows_of
from dcpipe.release.reading import Release
from dcpipe.store import describe_views
from dcpipe.store.encoding import encode_all
from dcpipe.store.tensors import write
from dcpipe.types import ImageSet, LabelPack, Sliceable

LABELS, CLASSES = "labels.safetensors", "classes.json"
_LONGEST = 60  # characters of a name; file systems take 255 bytes
_DEVICE = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)  # no folder's name on Windows


def write_folders(release: Release, folder: Path, pack: LabelPack | None) -> None:
    """Write the images, the names of the classes and, unless `pack` is None, the labels."""
    images = release.images
    places = [folder / name for name in class_folders(images.classes)]
    for place in places:
        place.mkdir()
    for data, label, rank in zip(encode_all(images), images.labels, images.ranks, strict=True):
        (places[label] / f"{rank:05d}.png").write_bytes(data)
    names = {place.name: name for place, name in zip(places, images.classes, strict=True)}
    (folder / CLASSES).write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    if pack is not None:
        _write_labels(folder / LABELS, images, pack)


def class_folders(classes: Sequence[str]) -> list[str]:
    """A folder for each class, whose sorted order is that of the classes: their names if they sort so and any file
    system takes them, else their numbers before what is left of the names."""
    fit = [_fit(name) for name in classes]
    different = len({name.casefold() for name in fit}) == len(fit)
    usable = all(name and not _DEVICE.fullmatch(name) for name in fit)
    if fit == list(classes) and fit == sorted(fit) and different and usable:
        return fit
    digits = max(5, len(str(len(classes) - 1)))
    return [f"{label:0{digits}d}_{name}".rstrip("_") for label, name in enumerate(fit)]


def _fit(name: str) -> str:
    """A name with nothing in it that a path, a shell or a file system takes for something else."""
    plain = unicodedata.normalize("NFC", name)
    kept = "".join(sign if sign.isalnum() or sign in "-+." else "_" for sign in plain)
    return re.sub("_+", "_", kept)[:_LONGEST].strip("._-+")


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
