"""Entries of labels: the few classes that sparse codecs store for every label, with their values.

Labels are numbered image by image, and by view within an image. Each has k entries, and the first `extra` labels have
one more, so that a budget is used up to a single entry, with little bookkeeping. The labels with one more entry are
those of the images that were picked first, which belong to every smaller set too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.compression.base import Array, Specs
from dcpipe.types import IntArray, LabelShape, require

_MOST_CLASSES = 2**16


@dataclass(frozen=True)
class Entries:
    """`each` entries of each of `labels` labels, one more for the first `extra`.

    They are stored as arrays `name` [labels, each] and, if extra > 0, `name_more` [extra]. For computations they are
    one table [m, width]: labels without an additional entry repeat their first entry in the last column, because
    writing it twice does not matter.
    """

    labels: int
    each: int
    extra: int

    @classmethod
    def fitting(cls, labels: int, budget: int, entry: int, most: int) -> Self:
        """As many entries of `entry` bytes as fit in `budget`, at most `most` per label."""
        each, extra = divmod(budget // entry, labels)
        return cls(labels, each, extra) if each < most else cls(labels, most, 0)

    @property
    def width(self) -> int:
        """Entries of the longest label."""
        return self.each + (self.extra > 0)

    def specs(self, name: str, dtype: str) -> Specs:
        """The arrays of one quantity."""
        more: Specs = {f"{name}_more": ((self.extra,), dtype)} if self.extra else {}
        return {name: ((self.labels, self.each), dtype), **more}

    def longer(self, index: IntArray) -> npt.NDArray[np.bool_]:
        """Which of the labels `index` have an additional entry."""
        longer: npt.NDArray[np.bool_] = index < self.extra
        return longer

    def trim(self, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The table [m, width] of labels `index`, on their device; labels without an additional entry repeat their
        first in the last column."""
        if not self.extra:
            return table
        longer = index < self.extra
        return torch.cat([table[:, :-1], torch.where(longer, table[:, -1], table[:, 0])[:, None]], dim=1)

    def split(self, name: str, table: torch.Tensor, index: IntArray, dtype: str) -> dict[str, Array]:
        """The arrays of a table of labels `index`."""
        array: Array = table.cpu().numpy().astype(dtype)
        more = {f"{name}_more": array[self.longer(index), -1]} if self.extra else {}
        return {name: np.ascontiguousarray(array[:, : self.each]), **more}

    def gather(
        self, name: str, arrays: Mapping[str, torch.Tensor], index: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """The table of labels `index`, on the arrays' device."""
        table = arrays[name].index_select(0, index).to(dtype)
        if not self.extra:
            return table
        more = arrays[f"{name}_more"].index_select(0, index.clamp_max(self.extra - 1)).to(dtype)
        return self.trim(torch.cat([table, more[:, None]], dim=1), index)


def check_classes(name: str, shape: LabelShape) -> None:
    """Raise `DataError` for more classes than two bytes can represent."""
    require(
        shape.classes <= _MOST_CLASSES,
        f"codec {name!r} supports up to {_MOST_CLASSES} classes, but there are {shape.classes}; choose codec 'svd'",
    )


def class_dtype(classes: int) -> str:
    """The dtype of stored classes: one byte if that is enough."""
    return "uint8" if classes <= 256 else "uint16"


def class_bytes(classes: int) -> int:
    """Bytes of a stored class."""
    return np.dtype(class_dtype(classes)).itemsize


def largest(logits: torch.Tensor, width: int) -> torch.Tensor:
    """Classes of the `width` largest logits, i64 [m, width], largest first; ties go to the lower class.

    A stable sort, because `topk` breaks ties differently for another batch size or device.
    """
    return torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :width]
