"""The images that students are tested on, by their pixels: which they are, and whether a set has some of them.

Pixels are those that students see, at the size to which images are decoded. So a set in files of another kind, and
images at another place, are recognised, but not an image that was compressed with a loss or cut otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dcpipe.images.decoding import Pixels
from dcpipe.images.inspection import pixel_hash
from dcpipe.images.kept import read_kept
from dcpipe.images.reading import read_parts
from dcpipe.store import digest_of
from dcpipe.types import ImageSet, ImageTable, IntArray, require


def hashes_of(test: ImageTable, folder: Path) -> list[str]:
    """The hashes of the pixels of the test images, in their order; `folder` is on the scratch disk."""
    return list(_hashes(read_kept(test, folder)))


def digest(test: ImageTable, hashes: Sequence[str]) -> str:
    """A digest of the test images and their division into classes, whatever their order, files and class names are.
    `hashes` are those of `hashes_of`."""
    by_class: list[list[str]] = [[] for _ in test.classes]
    for label, found in zip(test.labels.tolist(), hashes, strict=True):
        by_class[label].append(found)
    return digest_of(sorted(sorted(hashes) for hashes in by_class))


def remarks(images: ImageSet, test: ImageTable, known: Sequence[ImageTable], hashes: Sequence[str]) -> Iterator[str]:
    """What a reader of the numbers has to know of a set and the images that its students are tested on, in sentences.
    Arguments and errors are those of `leaked`."""
    if found := leaked(images, test, known, hashes):
        yield f"{found}: accuracy on them measures memory."
    height, width = images.images.shape[1:3]
    if (height, width) != (test.size, test.size):
        yield (
            f"The set is stored at {width} x {height} pixels. Its views are resized to {test.size} x {test.size}, at "
            "which students see all images and the test images; bytes are those of the set as it is stored."
        )


def leaked(images: ImageSet, test: ImageTable, known: Sequence[ImageTable], hashes: Sequence[str]) -> str:
    """A clause about images of a set that are test images pixel by pixel; empty without any.

    Sources may have images that are in train and in test (see `dcpipe.images.leakage`), and a set made from train may
    have them. They are told. An image that is a test image only was never to be trained on.

    Args:
        images: the set, as it is stored.
        test: the test images. Where the set is stored at another size, they are decoded at that.
        known: the images that a set may be made from. They are read only if the set has test images.
        hashes: of the test images, from `hashes_of`.

    Raises `DataError` if an image of the set is a test image and none of `known`.
    """
    height, width = images.images.shape[1:3]
    if height != width:  # images are decoded to squares
        return ""
    found_there = hashes if height == test.size else _hashes(read_parts(replace(test, size=height)))
    in_test = dict(zip(found_there, test.ids.tolist(), strict=True))
    rows = [(row, found) for row, found in enumerate(map(pixel_hash, images.images)) if found in in_test]
    if not rows:
        return ""
    in_train = {found for table in known for found in _hashes(read_parts(replace(table, size=height)))}
    only = [(row, found) for row, found in rows if found not in in_train]
    if only:
        first, found = only[0]
        require(
            False,
            f"{_share(len(only), images)} test images, pixel by pixel, and no train images, for example image {first} "
            f"is test image {in_test[found]}, so accuracy measures memory; judge the set with the split that it was "
            "made without (--data), or take these images out of it",
        )
    return f"{_share(len(rows), images)} test images, pixel by pixel, which are train images too"


def _share(n: int, images: ImageSet) -> str:
    return f"{n:,} of {len(images):,} images of the set ({100 * n / len(images):.2f} %) are"


def _hashes(parts: Iterable[tuple[Pixels, IntArray]]) -> Iterator[str]:
    for pixels, _ in parts:
        yield from map(pixel_hash, pixels)
