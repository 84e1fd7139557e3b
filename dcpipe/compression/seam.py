"""What every codec is, and the few things all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import DataError, IntArray, LabelPack, LabelShape, Sliceable, require
from dcpipe.views import Views

Array = npt.NDArray[Any]
Specs = dict[str, tuple[tuple[int, ...], str]]  # name -> (shape, dtype name)


class Codec(ABC):
    """Abstract; each concrete codec is a frozen dataclass of JSON values, and final."""

    @classmethod
    @abstractmethod
    def plan(cls, shape: LabelShape, budget: int) -> Self:
        """Choose settings whose arrays take at most `budget` bytes, as close below as the codec allows.

        Concrete codecs add their options as keyword-only arguments. Raises `DataError` naming the smallest
        reachable size when the budget is below it.
        """

    @abstractmethod
    def specs(self, shape: LabelShape) -> Specs:
        """Shapes and dtypes of the arrays for all images: their bytes are known before any work."""

    @abstractmethod
    def encode(self, logits: torch.Tensor, rows: IntArray, shape: LabelShape, views: Views) -> dict[str, Array]:
        """Encode the labels f32 [b, K, c] of images `rows`, consecutive; `views` are their b * K drawn views, image
        by image. Arrays of consecutive blocks are joined along axis 0."""

    @abstractmethod
    def decode(
        self, arrays: Mapping[str, torch.Tensor], rows: IntArray, stored: IntArray, shape: LabelShape, views: Views
    ) -> torch.Tensor:
        """Logits f32 [m, c] of stored view `stored[j]` of image `rows[j]`, by batched products on the arrays' device.
        `views` are the m drawn views, for codecs that compute labels from them."""

    def replay(self, epoch: int, shape: LabelShape) -> tuple[IntArray, IntArray]:
        """Which (row, stored view) the n items of an epoch are, before shuffling: by default every image once, in
        view `epoch mod K`. Codecs that drop views choose among those they keep."""
        return np.arange(shape.images), np.full(shape.images, epoch % shape.views, dtype=np.int64)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]


def payload(specs: Specs) -> int:
    """Bytes of the arrays alone."""
    return sum(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for shape, dtype in specs.values())


def pack_bytes(codec: Codec, shape: LabelShape, header: int) -> int:
    """Size of the file: header and arrays."""
    return header + payload(codec.specs(shape))


def plan(codec: type[Codec], shape: LabelShape, budget: int, options: Mapping[str, Any], header: Any) -> Codec:
    """Settings with which the whole file, its header included, stays within `budget` bytes.

    `header(codec)` gives the header's size for a planned codec.
    """
    reserve = 0
    while True:
        planned = codec.plan(shape, budget - reserve, **options)
        size = int(header(planned))
        if size + payload(planned.specs(shape)) <= budget:
            return planned
        require(reserve < size, f"codec {codec.__name__}: plan exceeds its budget of {budget} bytes")
        reserve = size


def join(blocks: Sequence[Mapping[str, Array]]) -> dict[str, Sliceable]:
    """Arrays of all images from those of consecutive blocks."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def rebuild(pack: LabelPack, codecs: Mapping[str, type[Codec]]) -> Codec:
    """The codec that made a pack; raises `DataError` for one this version does not know."""
    require(
        pack.codec in codecs,
        f"label pack was made by codec {pack.codec!r}; this dcpipe knows {', '.join(codecs)}: update dcpipe",
    )
    try:
        return codecs[pack.codec](**pack.settings)
    except TypeError as error:
        raise DataError(f"label pack has settings {pack.settings} that codec {pack.codec!r} refuses: {error}") from error
