"""Images that were not copied: `images.copy: false` makes a table that says where each image is in its source.

Whatever reads such a table reads the source, so the source must stay where it is. The table has the SHA-256 of each
image, so that an image that was changed since is noticed when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np

from dcpipe.images.base import Located, Source, is_text
from dcpipe.images.parquet import Shard, pick
from dcpipe.images.places import Piece, Remote, overlapping, place, read_file, read_pieces
from dcpipe.store.image_index import read_index
from dcpipe.types import DataError, Elsewhere, EncodedImage, ImageTable, IntArray, PlacedImage, require


def located(split: Source, source: str) -> Located:
    """The split, which knows where its images are. Raises `DataError` for one whose images are in no files."""
    if isinstance(split, Located):
        return split
    raise DataError(
        f"images.copy is false, but the images of source {source!r} are in no files that could be read later; set "
        "images.copy: true"
    )


def placed(split: Source, rows: IntArray, images: Sequence[EncodedImage], source: str) -> list[PlacedImage]:
    """Where ascending rows of a split are, with the hashes of their bytes, which were read as `images`. Raises
    `DataError` as `located` does, and for names that no index can hold."""
    found = []
    for image, where in zip(images, located(split, source).where(rows), strict=True):
        require(
            is_text(where.file),
            f"images.copy is false, but the name of {image.path} is not UTF-8; rename it, or set images.copy: true",
        )
        digest = hashlib.sha256(image.data).digest()
        found.append(PlacedImage(image.id, image.label, where.file, where.row, where.start, len(image.data), digest))
    return found


def read_encoded(table: ImageTable, part: int, rows: IntArray) -> list[tuple[bytes, str]]:
    """(file bytes, name for messages) of ascending rows of a part of a table, relative to the first row of the part.

    Raises `DataError` for an image that is not what it was when the table was made.
    """
    path = table.parts[part]
    if table.elsewhere is None:
        return pick(Shard(path), rows)
    images = read_index(path, rows)
    contents = _contents(table.elsewhere, images)
    for image, (content, name) in zip(images, contents, strict=True):
        digest = hashlib.sha256(content).digest()
        require(
            digest == image.sha256,
            f"image {name} (id {image.id}) in {table.elsewhere.root} has changed since data/images was made (SHA-256 "
            f"{digest.hex()[:12]}…, recorded {image.sha256.hex()[:12]}…); restore it, or run `dvc repro` to read the "
            "source again",
        )
    return contents


def _contents(elsewhere: Elsewhere, images: Sequence[PlacedImage]) -> list[tuple[bytes, str]]:
    """The bytes that are where the images were, and a name for messages."""
    root = place(elsewhere.root)
    if all(image.start is not None for image in images):
        pieces = [Piece(root / image.file, image.start or 0, image.size) for image in images]
        names = (f"{image.file}:{image.start}" for image in images)
        return list(zip(read_pieces(pieces), names, strict=True))
    if any(image.row is None for image in images):
        files = [(root / image.file, image.size) for image in images]
        contents = overlapping(lambda file: read_file(*file), files, isinstance(root, Remote))
        return list(zip(contents, (image.file for image in images), strict=True))
    picked = []
    for file, group in groupby(images, key=attrgetter("file")):
        rows = np.array([image.row for image in group], dtype=np.int64)
        picked += pick(Shard(root / file), rows, elsewhere.column)
    return picked
