"""Images on disk, images in memory, and selections of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from dcpipe.types.base import By, Colour, FloatArray, IntArray, check_labels, find_rows, require


class EncodedImage(NamedTuple):
    """One encoded image: its id, the bytes of its file, its path in the source and its label."""

    id: int
    data: bytes
    path: str
    label: int


Decoder = Literal["exact", "draft", "fast"]


class Decoding(NamedTuple):
    """How encoded images become squares of pixels: see `dcpipe.images.decoding`.

    `decoder`: `exact` decodes the whole image and then resizes it; `draft` leaves out high frequencies of a JPEG while
    decoding it if it is at least twice as large as needed; `fast` also resizes with PyTorch. `centre`: the share of the
    shorter side that the central square keeps.
    """

    decoder: Decoder = "exact"
    centre: float = 1.0


EXACT = Decoding()


class PlacedImage(NamedTuple):
    """Where an encoded image is, instead of its bytes: its id and label; its file, a name with slashes below the root
    of the source; in that file its row, if it is a Parquet table, or its first byte, if it is an archive; its
    size in bytes, and their SHA-256 (32 bytes)."""

    id: int
    label: int
    file: str
    row: int | None
    start: int | None
    size: int
    sha256: bytes


class Elsewhere(NamedTuple):
    """The source that an index of images points into: `root`, the folder or URL that files are below, and `column`, in
    which Parquet files have the images."""

    root: str
    column: str = ""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A split on disk: Parquet files of encoded images in a fixed row order. It may be larger than memory.

    `parts`: files with columns `id` i64, `image` struct<bytes, path> and `label` i64. Each has `part_rows` rows, the
    last one possibly fewer. `size`: the side in pixels to which images are decoded. `mean`, `std`: per channel, of the
    pixels of the train split in [0, 1]. `origin`: folder and digest of the artifact that it was opened from and the
    name of the split, None for a table that is only in memory. `decoding`: how images become squares of pixels.
    `elsewhere`: where the images are if they were not copied; `parts` then have the columns of `PlacedImage`.
    """

    parts: tuple[Path, ...]
    part_rows: int
    ids: IntArray
    labels: IntArray
    classes: tuple[str, ...]
    size: int
    mean: Colour
    std: Colour
    origin: tuple[str, str, str] | None = None
    decoding: Decoding = EXACT
    elsewhere: Elsewhere | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels, self.classes, "image table")
        require(self.ids.shape == self.labels.shape, "image table: ids and labels differ in length")
        expected = -(-len(self.ids) // self.part_rows)
        require(len(self.parts) == expected, f"image table: {len(self.parts)} parts found, {expected} expected")

    def __repr__(self) -> str:
        return f"<ImageTable: {len(self):,} images of {len(self.classes)} classes, read at {self.size}x{self.size}>"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def decoded_bytes(self) -> int:
        """Memory in bytes that all decoded images take."""
        return len(self) * self.size * self.size * 3

    def rows_of(self, ids: IntArray) -> IntArray:
        """Rows of the images `ids`, in that order: i64 [m]. Raises `DataError` for an image that is not in the
        table."""
        return find_rows(self.ids, ids, "is not in this table of images; run `dvc repro` to pick from it again")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory: a selection or a synthesised set. The order of rows matters: picks come in rounds of one image
    per class, so the first `k * len(classes)` rows are the condensed set of `k` images per class.

    `images` u8 [n, h, w, 3]; `labels`, `ids` i64 [n], where ids are distinct because views are drawn from them. `grid`
    f: each stored image decodes to f x f training images (`dcpipe.views.multiformation`), which the soft labels belong
    to. `by`: what the smaller set of k images per class is if images are grids: the first k stored `images`, or the
    first k * f * f `cells` (`multiformation.subset`). It is set by the method that made the images, because it decides
    which of the two smaller sets is good.
    """

    images: npt.NDArray[np.uint8]
    labels: IntArray
    ids: IntArray
    classes: tuple[str, ...]
    grid: int = 1
    by: By = "images"

    def __post_init__(self) -> None:
        check_labels(self.labels, self.classes, "image set")
        shape = self.images.shape
        valid = self.images.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
        require(valid, f"image set: images must be u8 [n, h, w, 3], got {self.images.dtype} {list(shape)}")
        n, labels, ids = len(self.images), len(self.labels), len(self.ids)
        require(n == labels == ids, f"image set: {n} images, {labels} labels, {ids} ids")
        require(len(np.unique(self.ids)) == len(self.ids), "image set: ids repeat; make them distinct")
        require(self.grid >= 1, f"image set: grid must be at least 1, got {self.grid}")
        side = min(shape[1:3])
        require(
            self.grid <= max(1, side),
            f"image set: grid must be at most {side}, the side of the images, got {self.grid}",
        )
        valid = get_args(By)
        require(self.by in valid, f"image set: by is {self.by!r}; choose one of {', '.join(valid)}")

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        cells = f", each a grid of {self.grid}x{self.grid}" if self.grid > 1 else ""
        return f"<ImageSet: {len(self):,} images of {width}x{height}{cells}, {len(self.classes)} classes>"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ranks(self) -> IntArray:
        """Position of each row among the rows of its class, from 0: i64 [n]."""
        order = np.argsort(self.labels, kind="stable")
        ordered = self.labels[order]
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[order] = np.arange(len(self)) - np.searchsorted(ordered, ordered)
        return ranks

    @property
    def decoded_ids(self) -> IntArray:
        """Ids of the training images, i64 [n * f * f]: id * f * f + cell. The cells of an image are consecutive."""
        cells = self.grid**2
        return (self.ids[:, None] * cells + np.arange(cells)).reshape(-1)

    @property
    def decoded_labels(self) -> IntArray:
        """Labels of the training images, i64 [n * f * f], in the order of `decoded_ids`."""
        return np.repeat(self.labels, self.grid**2)

    @property
    def per_class(self) -> IntArray:
        """Rows of each class, i64 [c]. They are equal, unless small classes gave all that they had."""
        counts: IntArray = np.bincount(self.labels, minlength=len(self.classes))
        return counts

    @property
    def most_per_class(self) -> int:
        """Rows of the class that has most: the nominal number of images per class."""
        return int(self.per_class.max())

    def check_ipc(self, ipc: int) -> None:
        """Raises `DataError` if all classes have fewer than `ipc` rows, or if `ipc` is below 1."""
        most, even = self.most_per_class, len(set(self.per_class.tolist())) == 1
        require(
            1 <= ipc <= most,
            f"ipc is {ipc}, but this set has {'' if even else 'up to '}{most} images per class; choose 1..{most}",
        )

    def prefix(self, ipc: int) -> ImageSet:
        """The smaller condensed set: the first `ipc` rows of every class, in their order, or all of a class that has
        fewer."""
        self.check_ipc(ipc)
        keep = self.ranks < ipc
        return ImageSet(self.images[keep], self.labels[keep], self.ids[keep], self.classes, self.grid, self.by)


@dataclass(frozen=True, eq=False)
class Selection:
    """Ids in the order in which they were picked, in rounds of one image per class, with the marginal gain of each
    pick."""

    ids: IntArray
    labels: IntArray
    gains: FloatArray
    method: str

    def __post_init__(self) -> None:
        require(len(np.unique(self.ids)) == len(self.ids), f"selection {self.method}: an image is picked twice")
        same = len(self.ids) == len(self.labels) == len(self.gains)
        require(same, f"selection {self.method}: ids, labels and gains differ in length")

    def __repr__(self) -> str:
        return f"<Selection by {self.method}: {len(self):,} images>"

    def __len__(self) -> int:
        return len(self.ids)
