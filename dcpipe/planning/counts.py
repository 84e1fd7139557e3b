"""How many images and classes there are: as given, as the stage `images` has counted them, or as the source counts them
without decoding an image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpipe import store
from dcpipe.config import budget
from dcpipe.config.params import Images
from dcpipe.images import SOURCES, list_source, split_minival
from dcpipe.types import DataError, require

TEST_SHARE = 25  # one test image for so many train images, about ImageNet-1K's; only if nobody says how many
PHOTOGRAPH = 108_000  # bytes of ImageNet-1K's JPEG files, on average
ROW_BYTES = 40  # of a row of the table, besides the image: id, label, name


@dataclass(frozen=True)
class Counts:
    """Images of each split, classes, bytes of an encoded image with its row in the table, and where these numbers are
    from."""

    train: int
    minival: int
    test: int
    classes: int
    image_bytes: int
    origin: str

    @property
    def all(self) -> int:
        """Images of all splits."""
        return self.train + self.minival + self.test

    @property
    def splits(self) -> dict[str, int]:
        """Images by split."""
        return {"train": self.train, "minival": self.minival, "test": self.test}


@dataclass(frozen=True)
class Given:
    """What the user says: train images before minival is cut off, test images, classes, and bytes of an image."""

    images: int | None = None
    classes: int | None = None
    test: int | None = None
    image_bytes: int | None = None


def count(block: Images, folder: Path, given: Given) -> Counts:
    """The counts of params.yaml's block `images`; `folder` is data/images, which need not exist.

    Raises `DataError` if they can be found nowhere.
    """
    for name, value in vars(given).items():
        low = value is None or value >= 1
        require(low, f"--{name.replace('_', '-')} is {value}; give 1 or more")
    if given.images is not None:
        return _as_given(block, given.images, given)
    for others in ("classes", "test", "image_bytes"):
        require(
            getattr(given, others) is None,
            f"--{others.replace('_', '-')} needs the number of images too; add --images",
        )
    return _recorded(block, folder) or _in_source(block)


def _source_bytes(size: int) -> int:
    """Bytes of an image in its source if nobody knows: a photograph's as JPEG, or a small image's as PNG."""
    return PHOTOGRAPH if size >= 128 else png_bytes(size)


def png_bytes(size: int) -> int:
    """Bytes of a photograph of side `size` as PNG in a Parquet file, roughly: two thirds of its pixels."""
    return 2 * size * size + 100


def _as_given(block: Images, images: int, given: Given) -> Counts:
    classes = given.classes
    if classes is None:
        try:
            classes = budget.counted_classes(block)
        except DataError:  # the images are not here
            classes = None
    if classes is None:
        raise DataError("--images needs the number of classes too; add --classes")
    require(images >= classes, f"--images {images:,} is less than the {classes:,} classes; give one or more a class")
    each = images // classes
    minival = classes * min(int(block.minival * each + 0.5), each - 1)
    test = images // TEST_SHARE if given.test is None else given.test
    n_bytes = given.image_bytes or _source_bytes(block.size)
    assumed = [
        f"{test:,} test images" if given.test is None else "",
        f"{n_bytes:,} bytes per image" if given.image_bytes is None else "",
    ]
    told = " and ".join(filter(None, assumed))
    return Counts(
        images - minival,
        minival,
        test,
        classes,
        n_bytes + ROW_BYTES,
        "given" + (f"; {told} are assumed" if told else ""),
    )


def _recorded(block: Images, folder: Path) -> Counts | None:
    """From the artifact, if it was made with this block."""
    if budget.recorded(block, folder) is None:
        return None
    meta = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))["meta"]
    splits: Mapping[str, int] = meta["counts"]
    elsewhere = meta.get("source")  # of images that were not copied
    n_bytes = (store.folder_bytes(folder) if elsewhere is None else elsewhere["bytes"]) // max(1, sum(splits.values()))
    return Counts(**splits, classes=len(meta["classes"]), image_bytes=n_bytes, origin=str(folder))


def _in_source(block: Images) -> Counts:
    options: dict[str, Any] = dict(block.options)
    if options.get("download"):
        options["download"] = False  # planning downloads nothing
    source = SOURCES[block.source]
    whole = getattr(source, "reads_everything", None)
    try:
        require(
            whole is None or not whole(**options), f"source {block.source} at {options.get('path')} would be read whole"
        )
        splits = source(**options)
        listing = list_source(source, options)
    except DataError as error:
        raise DataError(
            f"the images of params.yaml cannot be counted ({error}); or give --images and --classes, for example "
            "--images 1281167 --classes 1000"
        ) from error
    labels, test = splits["train"].labels, splits["test"].labels
    train, minival = (len(rows) for rows in split_minival(labels, block.minival, block.seed))
    n_bytes = _source_bytes(block.size)
    if listing is not None and listing.files:
        n_bytes = listing.bytes // max(1, len(labels) + len(test))
    classes = len(splits["train"].classes)
    return Counts(train, minival, len(test), classes, n_bytes + ROW_BYTES, f"counted in source {block.source}")
