"""The nouns of the pipeline: frozen, checked once when made, and ignorant of disks and orchestrators.

Dimension letters, everywhere: n images, v or K views, c or C classes, d features, m picked, h/w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Mix = Literal["none", "cutmix_images", "cutmix_labels"]
MIXES: tuple[str, ...] = ("none", "cutmix_images", "cutmix_labels")


class DataError(ValueError):
    """Bad input, told in one sentence that names the thing, the value found and the remedy."""


class Sliceable(Protocol):
    """What an array larger than memory must offer: NumPy, a memory map and a Zarr array all do."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def require(condition: bool, sentence: str) -> None:
    """Raise `DataError(sentence)` unless `condition` holds."""
    if not condition:
        raise DataError(sentence)


def check_labels(labels: IntArray, classes: Sequence[str], where: str) -> None:
    """Labels are i64 [n] in [0, len(classes)); classes are distinct names."""
    require(len(set(classes)) == len(classes), f"{where}: class names repeat; make them distinct")
    require(labels.ndim == 1 and labels.dtype == np.int64, f"{where}: labels must be i64 [n], got {labels.dtype}")
    if len(labels):
        low, high = int(labels.min()), int(labels.max())
        fits = low >= 0 and high < len(classes)
        require(fits, f"{where}: labels span {low}..{high} but there are {len(classes)} classes; check the class list")


def check_same_classes(first: Sequence[str], second: Sequence[str], where: str) -> None:
    """Raise `DataError` at the first difference in order: a silent one is the field's most reported bug."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        require(a == b, f"{where}: class {index} is {a!r} on one side and {b!r} on the other; use one class order")
    n, m = len(first), len(second)
    require(n == m, f"{where}: {n} classes on one side and {m} on the other; use one class list")


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
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        check_labels(self.labels, self.classes, "image table")
        require(self.ids.shape == self.labels.shape, "image table: ids and labels differ in length")
        expected = -(-len(self.ids) // self.part_rows)
        require(len(self.parts) == expected, f"image table: {len(self.parts)} parts found, {expected} expected")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory: a selection or a synthesis. Row order means something: picks come in rounds of one
    image a class, so the first `k * len(classes)` rows are the condensed set of `k` images per class.

    `images` u8 [n, h, w, 3]; `labels`, `ids` i64 [n], ids distinct (views are keyed by them);
    `grid` f: each stored image decodes to f x f training images.
    """

    images: npt.NDArray[np.uint8]
    labels: IntArray
    ids: IntArray
    classes: tuple[str, ...]
    grid: int = 1

    def __post_init__(self) -> None:
        check_labels(self.labels, self.classes, "image set")
        shape = self.images.shape
        legal = self.images.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
        require(legal, f"image set: images must be u8 [n, h, w, 3], got {self.images.dtype} {list(shape)}")
        n, labels, ids = len(self.images), len(self.labels), len(self.ids)
        require(n == labels == ids, f"image set: {n} images, {labels} labels, {ids} ids")
        require(len(np.unique(self.ids)) == len(self.ids), "image set: ids repeat; views are keyed by distinct ids")
        require(self.grid >= 1, f"image set: grid must be at least 1, got {self.grid}")

    def __len__(self) -> int:
        return len(self.images)

    def prefix(self, ipc: int) -> ImageSet:
        """The smaller condensed set: the first `ipc` rows of every class, in their order."""
        seen = np.zeros(len(self.classes), dtype=np.int64)
        keep = np.zeros(len(self), dtype=bool)
        for row, label in enumerate(self.labels):
            keep[row] = seen[label] < ipc
            seen[label] += 1
        smallest = int(seen.min())
        require(1 <= ipc <= smallest, f"ipc {ipc} is outside 1..{smallest}, what this set holds for every class")
        return ImageSet(self.images[keep], self.labels[keep], self.ids[keep], self.classes, self.grid)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network with what it needs to be used rightly: its normalisation and its class order.

    `weights`: state dict; `size`: the side in pixels it was trained at; `accuracy`: by split, in percent.
    """

    network: str
    weights: dict[str, torch.Tensor]
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    accuracy: dict[str, float]

    def __post_init__(self) -> None:
        for name, tensor in self.weights.items():
            finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
            require(finite, f"teacher {self.network}: weight {name!r} holds NaN or infinity; train it again")


@dataclass(frozen=True, eq=False)
class Features:
    """What a teacher says of every row of a table, in its order; arrays may live on disk.

    `vectors` f32 [n, d] (input of the last linear layer), `logits` f32 [n, c], `label_rate` f64 [n]: R_C of each
    image's soft labels (SCORE, Eq. 7), infinite for what a shortlist left out; `rank` i64 [n]: place in its class's
    shortlist, -1 for none.
    """

    vectors: Sliceable
    logits: Sliceable
    label_rate: FloatArray
    ids: IntArray
    labels: IntArray
    rank: IntArray | None = None

    def __post_init__(self) -> None:
        for name in ("vectors", "logits", "label_rate", "labels"):
            rows, n = getattr(self, name).shape[0], len(self.ids)
            require(rows == n, f"features: {name} has {rows} rows, ids have {n}")
        require(not np.isnan(self.label_rate).any(), "features: label_rate holds NaN; extract them again")


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


@dataclass(frozen=True)
class ViewPolicy:
    """How view v of image i is drawn: crop area range, aspect range, flip probability, mix.

    `mix`: `none`; `cutmix_images` pastes a box of another image before the teacher looks (SRe2L's way);
    `cutmix_labels` keeps stored labels clean and mixes images and labels by lambda in training (SCORE Eq. 1).
    """

    scale_min: float = 0.08
    scale_max: float = 1.0
    flip: float = 0.5
    mix: Mix = "none"
    seed: int = 0
    ratio_min: float = 3 / 4
    ratio_max: float = 4 / 3

    def __post_init__(self) -> None:
        low, high = self.scale_min, self.scale_max
        require(0 < low <= high <= 1, f"views: need 0 < scale_min <= scale_max <= 1, got {low} and {high}")
        require(0 <= self.flip <= 1, f"views: flip is a probability in 0..1, got {self.flip}")
        low, high = self.ratio_min, self.ratio_max
        require(0 < low <= high, f"views: need 0 < ratio_min <= ratio_max, got {low} and {high}")
        require(self.mix in MIXES, f"views: unknown mix {self.mix!r}; choose one of {', '.join(MIXES)}")

    @property
    def labelling(self) -> ViewPolicy:
        """What the teacher looks at: this policy, without the mix where labels are mixed later."""
        return replace(self, mix="none") if self.mix == "cutmix_labels" else self


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Teacher logits of K views of each image: fp16 [n, K, c]; views replay from `policy`, so no crop is stored."""

    logits: Sliceable
    policy: ViewPolicy
    ids: IntArray
    classes: tuple[str, ...]
    teachers: tuple[str, ...]

    def __post_init__(self) -> None:
        shape, n, c = self.logits.shape, len(self.ids), len(self.classes)
        fits = len(shape) == 3 and (shape[0], shape[2]) == (n, c)
        require(fits, f"soft labels: logits {list(shape)} do not fit {n} ids and {c} classes")
        require(self.logits.dtype == np.float16, f"soft labels: logits must be fp16, got {self.logits.dtype}")


@dataclass(frozen=True)
class LabelShape:
    """n images x K views x C classes; the fp16 reference costs 2 bytes an entry."""

    images: int
    views: int
    classes: int

    @property
    def reference_bytes(self) -> int:
        return 2 * self.images * self.views * self.classes


@dataclass(frozen=True, eq=False)
class LabelPack:
    """Compressed soft labels that decode from themselves alone.

    `codec` and `settings` (JSON values) rebuild the codec; `arrays` are its bytes, whose axis 0 runs over
    images or over stored entries; `n_bytes` is the size of the file, measured on disk.
    """

    codec: str
    settings: dict[str, Any]
    arrays: dict[str, Sliceable]
    shape: LabelShape
    policy: ViewPolicy
    ids: IntArray
    n_bytes: int = 0

    def __post_init__(self) -> None:
        require(len(self.ids) == self.shape.images, f"label pack: {len(self.ids)} ids for {self.shape.images} images")


@dataclass(frozen=True)
class Score:
    """Accuracy on test at the last epoch, one number a seed, of one row of the evaluation's table."""

    name: str
    protocol: str
    student: str
    ipc: int
    accuracy: tuple[float, ...]
    image_bytes: int
    label_bytes: int
    teacher_bytes: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        require(len(self.accuracy) > 0, f"score {self.name}: no seed was run")
        for value in self.accuracy:
            require(0 <= value <= 100, f"score {self.name}: accuracy {value} is not in 0..100 percent")

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds (0 for a single seed)."""
        return float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) > 1 else 0.0

    @property
    def total_bytes(self) -> int:
        return self.image_bytes + self.label_bytes + self.teacher_bytes
