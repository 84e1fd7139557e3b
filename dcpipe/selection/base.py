"""The input and output of every selector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcpipe.types import FloatArray, IntArray, Selection, Sliceable, require


@dataclass(frozen=True, eq=False)
class Candidates:
    """All images that may be picked, sorted by class: rows `offsets[y] : offsets[y + 1]` are class y.

    `vectors` f32 [n, d], `logits` f32 [n, c] (memory-mapped or in memory), `label_rate` f64 [n] (R_C of each image,
    infinite for an image that is not on the shortlist), `offsets` i64 [c + 1], `classes` the names for error messages,
    `ids` i64 [n] of the images (by default their rows). Within a class, rows are in the order of the table, which also
    resolves ties. With `take_all`, a class of fewer images than are wanted gives all that it has.
    """

    vectors: Sliceable
    logits: Sliceable
    label_rate: FloatArray
    offsets: IntArray
    classes: tuple[str, ...] = ()
    ids: IntArray | None = None
    take_all: bool = False

    def rows(self, label: int) -> slice:
        """Rows of one class."""
        return slice(int(self.offsets[label]), int(self.offsets[label + 1]))

    @property
    def n_classes(self) -> int:
        return len(self.offsets) - 1

    def class_vectors(self, label: int) -> FloatArray:
        """Feature vectors of one class, f64 [N, d]."""
        return np.asarray(self.vectors[self.rows(label)], dtype=np.float64)

    def class_units(self, label: int) -> FloatArray:
        """Feature vectors of one class, scaled to unit length, f64 [N, d]; zero vectors remain zero."""
        return unit(self.class_vectors(label))

    def class_logits(self, label: int) -> FloatArray:
        """The teacher's logits for the images of one class, f64 [N, c]."""
        return np.asarray(self.logits[self.rows(label)], dtype=np.float64)

    def class_probabilities(self, label: int) -> FloatArray:
        """The teacher's softmax probabilities for the images of one class, f64 [N, c]."""
        return softmax(self.class_logits(label))

    def class_log_probabilities(self, label: int) -> FloatArray:
        """Their logarithms, f64 [N, c]; precise where a probability rounds to 1, and finite where one underflows."""
        logits = self.class_logits(label)
        likeliest = np.arange(len(logits)), logits.argmax(axis=1)
        shifted = logits - logits[likeliest][:, None]
        odds = np.exp(shifted)
        odds[likeliest] = 0.0
        logs: FloatArray = shifted - np.log1p(odds.sum(axis=1, keepdims=True))
        return logs

    def selection(self, picks: Picks, method: str) -> Selection:
        """The picked images, in the order of the picks."""
        ids = picks.rows if self.ids is None else self.ids[picks.rows]
        labels = np.searchsorted(self.offsets, picks.rows, side="right") - 1
        return Selection(ids, labels, picks.gains, method)

    def class_name(self, label: int) -> str:
        """The name of a class for error messages."""
        return repr(self.classes[label] if self.classes else str(label))

    def wanted(self, ipc: int) -> IntArray:
        """How many images are to be picked of each class, i64 [c]; raises `DataError` as `check_ipc` does."""
        self.check_ipc(ipc)
        counts: IntArray = np.minimum(ipc, np.diff(self.offsets))
        return counts

    def check_ipc(self, ipc: int) -> None:
        """Raises `DataError` if a class has fewer than `ipc` images, unless it may; it names the smallest class."""
        sizes = np.diff(self.offsets)
        smallest = int(sizes.argmin())
        require(
            ipc <= sizes[smallest] or self.take_all,
            f"selection.ipc is {ipc} but class {self.class_name(smallest)} has {int(sizes[smallest])} images; "
            f"use ipc <= {int(sizes[smallest])}",
        )

    def check(self, ipc: int, *, logits: bool = True) -> None:
        """Raises `DataError` unless every class has `ipc` images (or may have fewer), all vectors and logits are
        finite, and no vector is zero. This takes one pass over the arrays, before any other work. Without `logits`,
        those are not read."""
        n = int(self.offsets[-1])
        for name, array in (("vectors", self.vectors), ("logits", self.logits), ("label_rate", self.label_rate)):
            require(
                array.shape[0] == n,
                f"candidates: {name} has {array.shape[0]} rows, labels have {n}; extract the features again",
            )
        self.check_ipc(ipc)
        for label in range(self.n_classes):
            block = self.class_vectors(label)
            values = np.asarray(self.logits[self.rows(label)]) if logits else np.zeros((len(block), 0))
            for fault, sound, remedy in (
                ("vector contains NaN or infinity", np.isfinite(block).all(axis=1), "check the teacher"),
                ("logits contain NaN or infinity", np.isfinite(values).all(axis=1), "check the teacher"),
                ("vector is zero", block.any(axis=1), "train the teacher longer, or another one"),
            ):
                wrong = np.flatnonzero(~sound)
                require(
                    len(wrong) == 0,
                    f"candidates: the {fault} in {len(wrong)} of {len(block)} images of class "
                    f"{self.class_name(label)}, first in image {wrong[0] if len(wrong) else 0}; {remedy}",
                )


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities f64 [N, c] of rows of logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def unit(vectors: FloatArray) -> FloatArray:
    """Rows scaled to unit length; zero rows remain zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: FloatArray = vectors / np.where(norm > 0, norm, 1.0)
    return units


@dataclass(frozen=True, eq=False)
class Picks:
    """Rows of `Candidates` in pick order, i64 [m], and the marginal gain of each pick, f64 [m]."""

    rows: IntArray
    gains: FloatArray


@dataclass(frozen=True)
class Progress:
    """How a selector resumes and reports its progress. None of it may change the result.

    `earlier`: picks of a killed run to continue from. `report`: called with all picks so far after each round, by
    selectors that can continue from them. `progress`: called with (picks made, total number of picks) by those that
    cannot.
    """

    earlier: Picks | None = None
    report: Callable[[Picks], None] = lambda picks: None
    progress: Callable[[int, int], None] = lambda done, total: None


def class_by_class(
    candidates: Candidates, ipc: int, progress: Progress, pick: Callable[[int, int], tuple[IntArray, FloatArray]]
) -> Picks:
    """Picks of a selector that treats each class separately, in rounds of one image of each class that has some left.

    `pick(label, n)` returns n rows, relative to the first row of their class, i64 [n], and their gains f64 [n]; n is
    `ipc`, or the size of a smaller class.
    """
    wanted, n_classes = candidates.wanted(ipc), candidates.n_classes
    rows, gains = np.empty((ipc, n_classes), dtype=np.int64), np.empty((ipc, n_classes))
    for label, n in enumerate(wanted.tolist()):
        chosen, gains[:n, label] = pick(label, n)
        rows[:n, label] = chosen + candidates.offsets[label]
        progress.progress(ipc * (label + 1), ipc * n_classes)
    picked = np.arange(ipc)[:, None] < wanted
    return Picks(rows[picked], gains[picked])
