"""What a reader of another project's images is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dcpipe.interop.tensors import array_of
from dcpipe.store.documents import shown
from dcpipe.store.torch_files import read_plain
from dcpipe.types import By, IntArray, require

# How the classes of images with soft labels are known: by their place, or as the largest entry of their labels.
ClassesFrom = Literal["places", "labels"]
SAVED_AGAIN = "load it where you trust it, and save only its images and labels, as a list of two tensors"
_SIDE = 2**14  # pixels
_AGREEMENT = 1.5  # times chance, as for imported labels


@dataclass(frozen=True)
class Options:
    """What a file cannot say, as the user states it; None where nothing was stated.

    `classes`: names in the order of the file's labels. `experiment`: which of several sets of one file. `factor`: each
    stored image is a grid of factor x factor training images. `by`: how a smaller set is counted then
    (`ImageSet.by`). `classes_from`: for soft labels. `image_column`, `label_column`: of a table.
    """

    classes: tuple[str, ...] | None = None
    experiment: int | None = None
    factor: int | None = None
    by: By | None = None
    classes_from: ClassesFrom | None = None
    image_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """A set as another project stored it.

    `images`: floats or bytes [n, channels, h, w] of a tensor, whose scale may be normalised, or u8 [n, h, w, 3] of
    pictures, which are `finished`. `labels` i64 [n]; `soft` f32 [n, c], or None for hard labels; `classes`, where the
    source names them. `files`: all that was read. `notes`: sentences on what was assumed. `grid`, `by`: of `ImageSet`.
    """

    images: npt.NDArray[Any]
    labels: IntArray
    files: tuple[Path, ...]
    soft: npt.NDArray[np.float32] | None = None
    classes: tuple[str, ...] | None = None
    finished: bool = False
    notes: tuple[str, ...] = ()
    grid: int = 1
    by: By = "images"

    @property
    def n_bytes(self) -> int:
        """Bytes of the files on disk."""
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True)
class Source:
    """A file or folder of another project."""

    path: Path

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @cached_property
    def content(self) -> Any:
        """What a file of torch.save holds, read without running code in it; None of a folder."""
        return None if self.is_folder else read_plain(self.path, SAVED_AGAIN)

    def begins_with(self, magic: bytes) -> bool:
        """Whether a file begins with some bytes."""
        with self.path.open("rb") as file:
            return file.read(len(magic)) == magic

    def named(self, pattern: str) -> list[Path]:
        """The files of a folder whose names match, sorted."""
        found = self.path.glob(pattern) if self.is_folder else ()
        return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


class Format(NamedTuple):
    """A family of formats: `summary` says whose it is; `files` are those of its files in a folder that have a set
    each; `owns` tells by the content of a file, or by what is in a folder, whether it is of this family."""

    summary: str
    files: Callable[[Source], list[Path]]
    owns: Callable[[Source], bool]
    read: Callable[[Source, Options], Found]


def images_of(value: Any, where: str) -> npt.NDArray[Any]:
    """Images [n, channels, h, w] of a tensor, as they are stored. Raises `DataError` for another shape or dtype."""
    wanted = "give images as a tensor [n, channels, height, width] of floats, or of bytes"
    array = array_of(value, where, "fu", 4, wanted)
    n, channels, height, width = array.shape
    require(
        n > 0
        and channels in (1, 3)
        and 0 < height == width <= _SIDE
        and (array.dtype.kind == "f" or array.itemsize == 1),
        f"{where} is {array.dtype} {list(array.shape)}, expected square images [n, 3 or 1, s, s]; {wanted}",
    )
    return array


def labels_of(value: Any, where: str, n: int) -> IntArray:
    """Class numbers i64 [n] of a tensor."""
    labels = array_of(value, where, "iu", 1, "give class numbers as a tensor of n integers")
    require(len(labels) == n, f"{where} has {len(labels)} labels for {n} images; give the labels of these images")
    require(bool((labels >= 0).all()), f"{where} has label {labels.min()}; number the classes from 0")
    return labels


def soft_labels_of(value: Any, where: str, n: int) -> npt.NDArray[np.float32]:
    """Soft labels f32 [n, c] of a tensor."""
    labels = array_of(value, where, "f", 2, "give soft labels as a tensor [n, classes] of floats")
    require(len(labels) == n, f"{where} has {len(labels)} labels for {n} images; give the labels of these images")
    require(labels.shape[1] >= 2, f"{where} has labels of {labels.shape[1]} class; give one column per class")
    with np.errstate(over="ignore"):
        singles = labels.astype(np.float32)
    finite = np.isfinite(singles).all(axis=1)
    require(bool(finite.all()), f"{where}: row {int(np.argmin(finite))} contains NaN or infinity; correct the file")
    return singles


def classes_of_soft(soft: npt.NDArray[np.float32], how: ClassesFrom | None, where: str) -> tuple[IntArray, str]:
    """The class of each image with a soft label: i64 [n], and a note on how it is known.

    Projects store images class by class, with the same number in each, so the place tells the class. That is refuted if
    the largest entries of the labels agree with it no more often than by chance, and then refused.
    """
    n, c = soft.shape
    largest: IntArray = soft.argmax(axis=1).astype(np.int64)
    if how == "labels":
        return largest, "the class of an image is the largest entry of its label, as --classes-from labels says"
    remedy = "give --classes-from labels if the largest entry of a label is the class of its image"
    require(n % c == 0, f"{where}: {n} images are not the same number of each of {c} classes; {remedy}")
    places: IntArray = np.repeat(np.arange(c, dtype=np.int64), n // c)
    agreed = float((places == largest).mean())
    share = f"{100 * agreed:.1f} % of soft labels agree with it, and chance is {100 / c:.1f} %"
    require(
        how == "places" or agreed > _AGREEMENT / c,
        f"{where}: images are not stored class by class, {n // c} of each: {share}; {remedy}",
    )
    return places, f"images are stored class by class, {n // c} of each; {share}"


def the_one(paths: Sequence[Path], folder: Path) -> Path:
    """The only path. Raises `DataError` if there are several, because which one is meant cannot be known."""
    names = ", ".join(shown(path.name)[1:-1] for path in paths[:5]) + (", …" if len(paths) > 5 else "")
    require(len(paths) == 1, f"{folder} has {len(paths)} sets ({names}); give the path of one of these files")
    return paths[0]
