"""What every selector takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcpipe.types import FloatArray, IntArray, Sliceable, require


@dataclass(frozen=True, eq=False)
class Candidates:
    """All images one may pick, sorted by class: rows `offsets[y] : offsets[y + 1]` are class y.

    `vectors` f32 [n, d], `logits` f32 [n, c] (memory-mapped or in memory), `label_rate` f64 [n] (R_C of each image),
    `offsets` i64 [c + 1]. Within a class, rows keep the table's order, so ties break by it.
    """

    vectors: Sliceable
    logits: Sliceable
    label_rate: FloatArray
    offsets: IntArray

    def rows(self, label: int) -> slice:
        """Rows of one class."""
        return slice(int(self.offsets[label]), int(self.offsets[label + 1]))

    @property
    def n_classes(self) -> int:
        return len(self.offsets) - 1

    def check_ipc(self, ipc: int, names: tuple[str, ...] | None = None) -> None:
        """Raises `DataError` when a class has fewer than `ipc` images, naming the smallest."""
        sizes = np.diff(self.offsets)
        smallest = int(sizes.argmin())
        called = names[smallest] if names else str(smallest)
        require(
            ipc <= sizes[smallest],
            f"selection.ipc is {ipc} but class {called!r} has {int(sizes[smallest])} images; "
            f"use ipc <= {int(sizes[smallest])}",
        )


def by_label(labels: IntArray, n_classes: int) -> tuple[IntArray, IntArray]:
    """The order i64 [n] that sorts rows by class and keeps them in place within it, and `Candidates.offsets`."""
    counts = np.bincount(labels, minlength=n_classes)
    return np.argsort(labels, kind="stable"), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Picks:
    """Rows of `Candidates` in pick order, i64 [m], and the marginal gain of each pick, f64 [m]."""

    rows: IntArray
    gains: FloatArray


@dataclass(frozen=True)
class Watch:
    """A selector's tie to the world: `earlier` picks of a killed run to go on from, and `report`, called with
    all picks so far after each round. Neither may change the result."""

    earlier: Picks | None = None
    report: Callable[[Picks], None] = lambda picks: None
