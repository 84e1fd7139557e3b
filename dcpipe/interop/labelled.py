"""The labels of an imported set: names, class numbers and soft labels, which are renumbered together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcpipe.interop.class_order import ranks
from dcpipe.interop.sets import Found
from dcpipe.store.documents import shown
from dcpipe.types import DataError, ImageSet, IntArray, require

_SUM = 1e-3  # how far from 1 the rows of probabilities may sum up
_LEAST = 1e-12  # a probability below this is stored as this one


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labels of a set: class names, class numbers i64 [n], and soft labels f32 [n, c] or None."""

    names: tuple[str, ...]
    labels: IntArray
    soft: npt.NDArray[np.float32] | None

    def renumbered(self, order: IntArray, names: tuple[str, ...]) -> Labelled:
        """The same with class k as class `order[k]` of `names`."""
        soft = None if self.soft is None else self.soft[:, np.argsort(order)]
        return Labelled(names, order[self.labels], soft)

    def aligned(self, names: tuple[str, ...], whose: str) -> Labelled:
        """The same classes in another order of their names. Raises `DataError` if they are not the same."""
        differ = sorted(set(self.names) ^ set(names))
        first = differ[0] if differ else ""
        missing = f"{whose} lacks it" if first in self.names else f"only {whose} has it"
        require(not differ, f"class {shown(first)}: {missing}; the set and {whose} must have the same classes")
        places = {name: place for place, name in enumerate(names)}
        order = np.array([places[name] for name in self.names], dtype=np.int64)
        return self.renumbered(order, names)

    def in_rounds(self, pixels: npt.NDArray[np.uint8], found: Found) -> tuple[ImageSet, npt.NDArray[np.float32] | None]:
        """The images in rounds of one per class, and their soft labels. Ids are the rows of the source."""
        places = ranks(self.labels)
        rows: IntArray = np.lexsort((self.labels, places)).astype(np.int64)
        images = ImageSet(pixels[rows], self.labels[rows], rows, self.names, found.grid, found.by)
        return images, None if self.soft is None else self.soft[rows]


def labelled(found: Found, stated: tuple[str, ...] | None, known: tuple[str, ...] | None, source: Path) -> Labelled:
    """Labels with class names: those of the file in the stated order, or the stated ones, or the teacher's."""
    names = found.classes or stated or known
    if names is None:
        raise DataError(
            f"{source} does not name its classes; give --classes with a list in the order of its labels, or a folder "
            "such as data/images, or --teacher"
        )
    width, highest = len(names), int(found.labels.max())
    require(
        highest < width, f"{source} has label {highest}, but there are {width} classes; give the classes of this set"
    )
    columns = width if found.soft is None else found.soft.shape[1]
    require(columns == width, f"{source} has soft labels of {columns} classes, but there are {width}; give its classes")
    counts = np.bincount(found.labels, minlength=width)
    require(
        bool(counts.all()),
        f"{source} has no image of class {int(np.argmin(counts))} ({shown(names[int(np.argmin(counts))])}); give the "
        "classes of this set",
    )
    whole = Labelled(names, found.labels, found.soft)
    return whole if stated is None or found.classes is None else whole.aligned(stated, "--classes")


def logits_of(soft: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], str]:
    """Soft labels as logits f32 [n, c], and a note on what they were."""
    if (soft >= 0).all() and (np.abs(soft.sum(1, dtype=np.float64) - 1) <= _SUM).all():
        return np.log(
            np.maximum(soft, _LEAST)
        ), "soft labels are probabilities, because rows sum to 1; stored as logarithms"
    return soft, "soft labels are logits, because their rows are no probabilities"
