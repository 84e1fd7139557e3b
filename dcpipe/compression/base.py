"""The base class of codecs, and the functions that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import BudgetError, DataError, IntArray, LabelPack, LabelShape, Mix, Sliceable, require
from dcpipe.views import Views, send

Array = npt.NDArray[Any]
Specs = dict[str, tuple[tuple[int, ...], str]]  # name -> (shape, dtype name)


@dataclass(frozen=True)
class Codec(ABC):
    """Abstract; each concrete codec is a frozen dataclass of JSON values, and final."""

    @classmethod
    @abstractmethod
    def plan(cls, shape: LabelShape, budget: int) -> Self:
        """Choose settings whose arrays take at most `budget` bytes, and as close to it as the codec allows.

        Concrete codecs add their options as keyword-only arguments. Raises `DataError` with the smallest possible size
        if the budget is smaller.
        """

    @abstractmethod
    def specs(self, shape: LabelShape) -> Specs:
        """Shapes and dtypes of the arrays for all images, so that their size is known before any work."""

    @abstractmethod
    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Encode the labels f32 [b, K, c] of the consecutive images `rows`. `views` are the parameters of their b * K
        views, image by image. Arrays of consecutive blocks are joined along axis 0."""

    def locate(self, rows: IntArray, stored: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """What the labels of stored view `stored[j]` of image `rows[j]` depend on, for every j: arrays in host memory
        whose axis 0 runs over the m views. By default they are `rows` and `stored` themselves.

        A training calls this once per epoch and copies the arrays to the device. `views` are the parameters of these m
        views, for codecs that compute labels from them."""
        return {"rows": rows, "stored": stored}

    @abstractmethod
    def decode_located(
        self, arrays: Mapping[str, torch.Tensor], located: Mapping[str, torch.Tensor], shape: LabelShape
    ) -> torch.Tensor:
        """Logits f32 [m, c] of the m views of `located`, which has rows of the arrays of `locate`, on the device of
        `arrays`. A training calls this for every batch, so it must not wait for the device."""

    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        """Logits f32 [m, c] of stored view `stored[j]` of image `rows[j]` for every j, computed in batches on the
        device of the arrays. `views` are the parameters of these m views."""
        device = next(iter(arrays.values())).device
        located = self.locate(rows, stored, shape, views)
        return self.decode_located(arrays, {name: send(array, device) for name, array in located.items()}, shape)

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """Rows and stored views of the n items of an epoch, before shuffling: by default every image once, in view
        `epoch mod K`. Codecs that drop views choose among the remaining ones."""
        return np.arange(shape.images), np.full(shape.images, epoch % shape.views, dtype=np.int64)

    def holds(self, rows: IntArray, stored: IntArray, shape: LabelShape) -> npt.NDArray[np.bool_]:
        """Which of the pairs (`rows[j]`, `stored[j]`) decode, bool [m]: all, unless the codec drops views."""
        return np.ones(len(rows), dtype=np.bool_)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return asdict(self)


def payload(specs: Specs) -> int:
    """Bytes of the arrays alone."""
    return sum(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for shape, dtype in specs.values())


def require_budget(name: str, budget: int, smallest: int, shape: LabelShape, remedy: str) -> None:
    """Raise `BudgetError` with the smallest possible size if the budget is below it."""
    if budget < smallest:
        ratio = shape.reference_bytes / smallest
        raise BudgetError(
            f"codec {name!r}: its arrays take at least {smallest} bytes ({ratio:.2f}x below fp16) but the budget "
            f"leaves {max(budget, 0)} after the header; {remedy}"
        )


def plan(
    codec: type[Codec], shape: LabelShape, budget: int, options: Mapping[str, Any], header: Callable[[Codec], int]
) -> Codec:
    """Settings with which the whole file, including its header, takes at most `budget` bytes.

    `header(codec)` returns the size of the header for a planned codec, which depends on the digits of the settings and
    on the number of arrays. So this size is reserved, the codec is planned again, and so on; the arrays shrink every
    time.
    """
    planned = codec.plan(shape, budget, **options)
    while True:
        size, arrays = header(planned), payload(planned.specs(shape))
        if size + arrays <= budget:
            return planned
        try:
            planned = codec.plan(shape, budget - size, **options)
        except DataError as error:  # fewer arrays need a shorter header, so perhaps the next smaller plan fits
            try:
                planned = codec.plan(shape, arrays - 1, **options)
            except DataError:
                raise error from None  # it says how much this header leaves
        require(
            payload(planned.specs(shape)) < arrays,
            f"internal error: codec {codec.__name__} planned more than its budget of {budget} bytes; please report it",
        )


def check_mix(name: str, codec: Codec, shape: LabelShape, mix: Mix) -> None:
    """If labels are mixed in training, the label of a view may be needed for any image.

    Raises `DataError` if the codec `name` stores a view of only some images.
    """
    if mix != "cutmix_labels":
        return
    rows = np.arange(shape.images)
    for view in range(shape.views):
        held = codec.holds(rows, np.full(len(rows), view, dtype=np.int64), shape)
        require(
            bool(held.all() == held.any()),
            f"codec {name!r} stores view {view} of only some images, but mix 'cutmix_labels' "
            "needs its labels for any partner; store whole views (granularity epoch) or choose another mix",
        )


def join(blocks: Sequence[Mapping[str, Array]]) -> dict[str, Sliceable]:
    """The arrays of all images, from those of consecutive blocks."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def rebuild(pack: LabelPack, codecs: Mapping[str, type[Codec]]) -> Codec:
    """The codec that made a pack.

    Raises `DataError` for a codec or settings that this version does not know, and for arrays that do not match them.
    """
    require(
        pack.codec in codecs,
        f"label pack was made by codec {pack.codec!r}, but this dcpipe has {', '.join(codecs)}; update dcpipe, or "
        "install the package that defines it",
    )
    try:
        codec = codecs[pack.codec](**pack.settings)
    except TypeError as error:
        raise DataError(
            f"label pack has settings {pack.settings} that codec {pack.codec!r} does not accept ({error}); "
            "update dcpipe"
        ) from error
    try:
        expected = codec.specs(pack.shape)
    except Exception as error:  # settings are a stranger's values, with which a codec computes
        raise DataError(
            f"label pack has settings {pack.settings} with which codec {pack.codec!r} cannot work ({error}); "
            "get the pack again"
        ) from error
    found = {name: (tuple(array.shape), np.dtype(array.dtype).name) for name, array in pack.arrays.items()}
    require(
        found == expected,
        f"label pack has arrays {found}, but codec {pack.codec!r} with its settings makes {expected}; "
        "get the pack again",
    )
    return codec
