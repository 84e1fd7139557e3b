"""Images on disk, images in memory, and picks among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from dcpipe.types.base import By, Colour, FloatArray, IntArray, check_labels, find_rows, require


class EncodedImage(NamedTuple):
    """One encoded image: id, file bytes, the source's own name for it, label."""

    id: int
    data: bytes
    path: str
    label: int


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A split on disk: Parquet parts of encoded images, in a fixed row order; may be larger than memory.

    `parts`: files with columns `id` i64, `image` struct<bytes, path>, `label` i64, each of `part_rows` rows (the last
    fewer). `size`: the side in pixels images are decoded to. `mean`, `std`: per channel, of train's pixels in [0, 1].
    """

    parts: tuple[Path, ...]
    part_rows: int
    ids: IntArray
    labels: IntArray
    classes: tuple[str, ...]
    size: int
    mean: Colour
    std: Colour

    def __post_init__(self) -> None:
        check_labels(self.labels, self.classes, "image table")
        require(self.ids.shape == self.labels.shape, "image table: ids and labels differ in length")
        expected = -(-len(self.ids) // self.part_rows)
        require(len(self.parts) == expected, f"image table: {len(self.parts)} parts found, {expected} expected")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def decoded_bytes(self) -> int:
        """Memory that all images take once decoded."""
        return len(self) * self.size * self.size * 3

    def rows_of(self, ids: IntArray) -> IntArray:
        """Rows that hold images `ids`, in that order: i64 [m]. Raises `DataError` for an image that the table lacks."""
        return find_rows(self.ids, ids, "is not in this table of images; run `dvc repro` to pick from it again")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory: a selection or a synthesis. Row order means something: picks come in rounds of one
    image a class, so the first `k * len(classes)` rows are the condensed set of `k` images per class.

    `images` u8 [n, h, w, 3]; `labels`, `ids` i64 [n], ids distinct (views are keyed by them);
    `grid` f: each stored image decodes to f x f training images (`dcpipe.views.multiformation`), and soft labels are
    of those. `by`: what the smaller set of k images per class is, where images are grids: the first k stored `images`,
    or the first k * f * f `cells` (`multiformation.subset`); the method that made the set knows for which it is good.
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
        legal = self.images.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
        require(legal, f"image set: images must be u8 [n, h, w, 3], got {self.images.dtype} {list(shape)}")
        n, labels, ids = len(self.images), len(self.labels), len(self.ids)
        require(n == labels == ids, f"image set: {n} images, {labels} labels, {ids} ids")
        require(len(np.unique(self.ids)) == len(self.ids), "image set: ids repeat; views are keyed by distinct ids")
        require(self.grid >= 1, f"image set: grid must be at least 1, got {self.grid}")
        legal = get_args(By)
        require(self.by in legal, f"image set: by is {self.by!r}; choose one of {', '.join(legal)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ranks(self) -> IntArray:
        """Place of each row among the rows of its class: i64 [n]."""
        order = np.argsort(self.labels, kind="stable")
        ordered = self.labels[order]
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[order] = np.arange(len(self)) - np.searchsorted(ordered, ordered)
        return ranks

    @property
    def decoded_ids(self) -> IntArray:
        """Ids of the training images, i64 [n * f * f]: id * f * f + cell, the cells of an image together."""
        cells = self.grid**2
        return (self.ids[:, None] * cells + np.arange(cells)).reshape(-1)

    @property
    def decoded_labels(self) -> IntArray:
        """Labels of the training images, i64 [n * f * f], in the order of `decoded_ids`."""
        return np.repeat(self.labels, self.grid**2)

    def check_ipc(self, ipc: int) -> None:
        """Raises `DataError` when some class holds fewer than `ipc` rows, or `ipc` is below 1."""
        smallest = int(np.bincount(self.labels, minlength=len(self.classes)).min())
        require(1 <= ipc <= smallest, f"ipc {ipc} is outside 1..{smallest}, what this set holds for every class")

    def prefix(self, ipc: int) -> ImageSet:
        """The smaller condensed set: the first `ipc` rows of every class, in their order."""
        self.check_ipc(ipc)
        keep = self.ranks < ipc
        return ImageSet(self.images[keep], self.labels[keep], self.ids[keep], self.classes, self.grid, self.by)


@dataclass(frozen=True, eq=False)
class Selection:
    """Ids in pick order with the marginal gain of each pick; rounds of one image a class."""

    ids: IntArray
    labels: IntArray
    gains: FloatArray
    method: str

    def __post_init__(self) -> None:
        require(len(np.unique(self.ids)) == len(self.ids), f"selection {self.method}: an image is picked twice")
        same = len(self.ids) == len(self.labels) == len(self.gains)
        require(same, f"selection {self.method}: ids, labels and gains differ in length")

    def __len__(self) -> int:
        return len(self.ids)
