"""What every source gives, what is checked of any of them, and how classes are cut in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dcpipe.random import Stream, permutation
from dcpipe.types import IntArray, check_labels, check_same_classes, require


class Source(Protocol):
    """One split: class names in order, labels i64 [n] in source order, and encoded images on demand."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> IntArray: ...
    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        """(file bytes, the source's own name) of ascending rows; may be called from several threads."""
        ...


@dataclass(frozen=True, eq=False)
class Subset:
    """Some rows of another source, ascending: how a set that comes in one piece becomes train and test."""

    whole: Source
    rows: IntArray

    @property
    def classes(self) -> tuple[str, ...]:
        return self.whole.classes

    @property
    def labels(self) -> IntArray:
        chosen: IntArray = self.whole.labels[self.rows]
        return chosen

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        return self.whole.read(self.rows[rows])


def checked(train: Source, test: Source, where: str) -> dict[str, Source]:
    """The two splits, once they make sense together.

    Raises `DataError` for an empty split, repeated or different class names, labels outside the list and
    classes of train without an image. (Test may lack a class: accuracy is still defined.)
    """
    for split, source in (("train", train), ("test", test)):
        require(len(source.labels) > 0, f"{where}: {split} holds no images; check the path and the split's name")
        check_labels(source.labels, source.classes, f"{where} {split}")
    check_same_classes(train.classes, test.classes, f"{where}: train and test")
    counts = np.bincount(train.labels, minlength=len(train.classes))
    if not counts.all():
        empty = train.classes[int(np.argmin(counts))]
        require(False, f"{where}: class {empty!r} has no train images; add some or take it off the class list")
    return {"train": train, "test": test}


def split_minival(labels: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """(train rows, minival rows) of labels i64 [n], both ascending: a share of every class, drawn by `seed`.

    A class of m images gives round(share * m) to minival, halves up, but keeps at least one for train.
    """
    return _cut(labels, share, seed, Stream.MINIVAL)


def cut_test(whole: Source, share: float, seed: int) -> tuple[Subset, Subset]:
    """(train, test) of a source that comes in one piece, by the law of `split_minival` but other draws."""
    train, test = _cut(whole.labels, share, seed, Stream.TEST)
    return Subset(whole, train), Subset(whole, test)


def _cut(labels: IntArray, share: float, seed: int, stream: Stream) -> tuple[IntArray, IntArray]:
    require(0 <= share <= 1, f"a split needs a share in 0..1, got {share}; correct it")
    order = permutation(seed, stream, len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    taken = np.minimum(np.floor(share * counts + 0.5).astype(np.int64), counts - 1)
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    cut = rank < np.repeat(taken, counts)
    return np.sort(by_class[~cut]), np.sort(by_class[cut])


def check_ascending(rows: IntArray, n: int, where: str) -> None:
    """Rows of a read must ascend strictly within range(n)."""
    ascends = len(rows) == 0 or (rows[0] >= 0 and rows[-1] < n and bool((np.diff(rows) > 0).all()))
    require(ascends, f"{where}: rows must ascend within 0..{n - 1}; sort them and take each once")


def class_list(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names as given by a person: a list of names, not one name."""
    fine = not isinstance(classes, str) and all(isinstance(name, str) for name in classes)
    require(fine, f"classes must be a list of names, got {classes!r}; write them as a YAML list")
    return tuple(classes)
