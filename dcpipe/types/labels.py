"""Views of images, their soft labels, and packs of compressed labels."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcpipe.types.base import MIX_BOXES, MIXES, DataError, IntArray, Mix, MixBox, Sliceable, require

# Name of an array of stored views -> (shape after the axes of image and view, dtype).
VIEW_ARRAYS: dict[str, tuple[tuple[int, ...], str]] = {
    "box": ((4,), "float32"),
    "flip": ((), "uint8"),
    "partner": ((), "int32"),
    "mix_box": ((4,), "uint16"),
    "partner_box": ((4,), "float32"),
    "partner_flip": ((), "uint8"),
}

# Operations of `dcpipe.views.siamese`, in the order in which they run. Drawn numbers are indices into this tuple, so it
# must never change.
SIAMESE = ("flip", "color", "crop", "scale", "rotate", "cutout")


def siamese_operations(strategy: str) -> tuple[str, tuple[str, ...]]:
    """The rule (`idc` or `dsa`) and the operations of a strategy such as `color_crop` or `dsa:color_crop`, in the order
    of `SIAMESE`. Raises `DataError` for a strategy that names no operation, an unknown one, or one twice."""
    named = strategy.removeprefix("dsa:").split("_")
    require(
        set(named) <= set(SIAMESE) and len(set(named)) == len(named),
        f"siamese: invalid strategy {strategy!r}; join different names of {', '.join(SIAMESE)} by _, "
        "as in color_crop, or in dsa:color_crop to apply one of them at a time",
    )
    return "dsa" if strategy.startswith("dsa:") else "idc", tuple(name for name in SIAMESE if name in named)


@dataclass(frozen=True)
class ViewPolicy:
    """How view v of image i is drawn: crop area range, aspect range, flip probability, mix.

    `mix`: `none`; `cutmix_images` pastes a box of another image before the teacher labels the view (as SRe2L does);
    `cutmix_labels` stores labels of unmixed views and mixes images and labels by lambda in training (SCORE Eq. 1).
    `randaugment`: number of operations of RandAugment before the crop, 0 for none. `shuffle`: before the crop, patches
    of a grid with this many per side are permuted; 1 for none. `siamese`: a strategy of `dcpipe.views.siamese` that is
    applied after the crop, "" for none. Its parameters are drawn for every view, and so is the operation that runs if
    operations exclude each other. The official code draws that operation once per batch, but here a view must not
    depend on its batch. Values of such views may leave [0, 1]. `mix_share`: the probability that a view is mixed if
    there is a mix (IDC: 0.5). `mix_box`: how the box of the mix becomes pixels (`dcpipe.views.boxes`): its edges are
    `rounded`, or its side is cut to an `even` number as in the official code of CutMix.
    """

    scale_min: float = 0.08
    scale_max: float = 1.0
    flip: float = 0.5
    mix: Mix = "none"
    seed: int = 0
    ratio_min: float = 3 / 4
    ratio_max: float = 4 / 3
    randaugment: int = 0
    shuffle: int = 1
    siamese: str = ""
    mix_share: float = 1.0
    mix_box: MixBox = "rounded"

    def __post_init__(self) -> None:
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        require(whole, f"views: seed must be a whole number, got {self.seed!r}")
        low, high = self.scale_min, self.scale_max
        require(0 < low <= high <= 1, f"views: need 0 < scale_min <= scale_max <= 1, got {low} and {high}")
        require(0 <= self.flip <= 1, f"views: flip is a probability in 0..1, got {self.flip}")
        low, high = self.ratio_min, self.ratio_max
        require(0 < low <= high, f"views: need 0 < ratio_min <= ratio_max, got {low} and {high}")
        require(self.mix in MIXES, f"views: unknown mix {self.mix!r}; choose one of {', '.join(MIXES)}")
        steps, side = self.randaugment, self.shuffle
        require(0 <= steps <= 16, f"views: randaugment is a number of operations in 0..16, got {steps}")
        require(1 <= side <= 16, f"views: shuffle is a number of patches per side in 1..16, got {side}")
        require(0 <= self.mix_share <= 1, f"views: mix_share is a probability in 0..1, got {self.mix_share}")
        require(
            self.mix_box in MIX_BOXES, f"views: unknown mix_box {self.mix_box!r}; choose one of {', '.join(MIX_BOXES)}"
        )
        if self.siamese:
            siamese_operations(self.siamese)

    @property
    def labelling(self) -> ViewPolicy:
        """The policy of the views that the teacher labels: this one, but without the mix if labels are mixed later."""
        return replace(self, mix="none") if self.mix == "cutmix_labels" else self


@dataclass(frozen=True, eq=False)
class StoredViews:
    """Views that another program drew, given by their stored parameters. Views that are drawn here need only a
    `ViewPolicy`.

    `mix`: `none` or `cutmix_images`; `size`: the side in pixels of a view as its teacher saw it. `arrays`, of view k of
    image i at [i, k]: `box` f32 [n, K, 4] (left, top, width, height as fractions of the image) and `flip` u8 [n, K].
    With a mix also `partner` i32 [n, K], the row of the pasted image; `mix_box` u16 [n, K, 4], the pasted box (left,
    top, right, bottom in pixels of the view); and the crop and flip of the pasted image itself, `partner_box` f32 [n,
    K, 4] and `partner_flip` u8 [n, K]. These need not be those of one of its stored views, because a store may lack
    some.
    """

    mix: Mix
    size: int
    arrays: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        names = VIEW_ARRAYS if self.mix != "none" else {name: VIEW_ARRAYS[name] for name in ("box", "flip")}
        n, k = self.arrays["box"].shape[:2] if "box" in self.arrays else (0, 0)
        expected = {name: ((n, k, *tail), dtype) for name, (tail, dtype) in names.items()}
        found = {name: (array.shape, array.dtype.name) for name, array in self.arrays.items()}
        require(found == expected, f"stored views: expected arrays {expected}, found {found}; import the labels again")
        for name in sorted(names.keys() & {"box", "partner_box"}):
            box = self.arrays[name]
            inside = (box >= 0).all() and (box[..., 2:] > 0).all() and (box[..., :2] + box[..., 2:] < 1.001).all()
            require(bool(inside), f"stored views: {name} leaves the image; import the labels again")
        if self.mix != "none":
            partner, pasted = self.arrays["partner"], self.arrays["mix_box"]
            require(
                bool(((partner >= 0) & (partner < n)).all()),
                f"stored views: a partner is outside 0..{n - 1}; import the labels again",
            )
            fits = bool((pasted <= self.size).all() and (pasted[..., :2] <= pasted[..., 2:]).all())
            require(fits, f"stored views: a pasted box leaves the view of {self.size} pixels; import the labels again")

    @property
    def labelling(self) -> StoredViews:
        """The views that the teacher labelled: these."""
        return self

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def select(self, rows: IntArray) -> StoredViews:
        """The views of some of the images; only for views without a mix, because partners are rows of the whole set."""
        return replace(self, arrays={name: array[rows] for name, array in self.arrays.items()})


ViewSource = ViewPolicy | StoredViews


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Teacher logits of K views of each image: fp16 [n, K, c]. `policy` is the source of the views; views that are
    drawn from a seed take no bytes."""

    logits: Sliceable
    policy: ViewSource
    ids: IntArray
    classes: tuple[str, ...]
    teachers: tuple[str, ...]

    def __repr__(self) -> str:
        images, views, classes = self.logits.shape
        return f"<SoftLabels: {images:,} images x {views} views x {classes} classes, by {', '.join(self.teachers)}>"

    def __post_init__(self) -> None:
        shape, n, c = self.logits.shape, len(self.ids), len(self.classes)
        fits = len(shape) == 3 and (shape[0], shape[2]) == (n, c)
        require(fits, f"soft labels: logits {list(shape)} do not fit {n} ids and {c} classes")
        require(self.logits.dtype == np.float16, f"soft labels: logits must be fp16, got {self.logits.dtype}")


def check_logits(logits: npt.NDArray[np.floating[Any]], ids: IntArray, rows: IntArray) -> None:
    """Raises `DataError` for the first label of logits [b, K, c] that fp16 cannot store, naming its image; `ids` and
    `rows` i64 [b] are the ids of these images and their rows in the set.

    Everything that makes or encodes soft labels calls this, because a codec would turn such an image into uniform
    labels or garbage.
    """
    stored = np.abs(logits) <= np.finfo(np.float16).max  # false for NaN
    if not stored.all():
        image, view = np.argwhere(~stored)[0, :2]
        raise DataError(
            f"soft labels of image {ids[image]} (row {rows[image]}) contain NaN, infinity or a number beyond fp16 "
            f"(65504) in view {view}; check the teacher's weights and normalisation, then compute the labels again"
        )


@dataclass(frozen=True)
class LabelShape:
    """n images x K views x C classes; the fp16 reference takes 2 bytes per entry."""

    images: int
    views: int
    classes: int

    @property
    def reference_bytes(self) -> int:
        return 2 * self.images * self.views * self.classes

    def budget(
        self,
        ratio: float | None = None,
        bytes_per_image: float | None = None,
        reference: Literal["fp16", "fp32"] = "fp16",
    ) -> int | None:
        """Bytes that a file of such labels may take: `bytes_per_image` for each image, or the size of the labels in
        `reference` divided by `ratio`. None if neither is given."""
        if bytes_per_image is not None:
            return int(min(float(bytes_per_image) * self.images, sys.maxsize // 2))  # no file is larger
        return None if ratio is None else int(self.reference_bytes * {"fp16": 1, "fp32": 2}[reference] / ratio)


def reference_bytes(
    labels: Mapping[str, Any] | None, ipc: int, grid: int = 1, per_class: Sequence[int] | None = None
) -> int:
    """Bytes that the soft labels of the first `ipc` stored images per class take in fp16; 0 for hard labels.

    `labels` is the shape of a pack (`images`, `views`, `classes`), which counts decoded images: `grid`^2 per stored
    image. `per_class`: the stored images of each class, if they are not equally many.
    """
    if labels is None:
        return 0
    stored = per_class or [max(1, labels["images"] // labels["classes"] // grid**2)]
    shown = labels["images"] * sum(min(ipc, n) for n in stored) // sum(stored)
    return LabelShape(shown, labels["views"], labels["classes"]).reference_bytes


@dataclass(frozen=True, eq=False)
class LabelPack:
    """Compressed soft labels, which can be decoded without any other data.

    The codec is rebuilt from `codec` and `settings` (JSON values). `arrays` hold the encoded labels; their axis 0 runs
    over images or over stored entries. `n_bytes` is the size of the file, measured on disk.
    """

    codec: str
    settings: dict[str, Any]
    arrays: dict[str, Sliceable]
    shape: LabelShape
    policy: ViewSource
    ids: IntArray
    n_bytes: int = 0
    file: str = ""

    def __repr__(self) -> str:
        shape = f"{self.shape.images:,} images x {self.shape.views} views x {self.shape.classes} classes"
        return f"<LabelPack of codec {self.codec}: {shape}, {self.n_bytes:,} bytes>"

    def __post_init__(self) -> None:
        require(len(self.ids) == self.shape.images, f"label pack: {len(self.ids)} ids for {self.shape.images} images")
